"""Write the files beside the dump: proof, properties, README, checksums, and the manifest last."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from pgtasks.backup.dump.job import Job
from pgtasks.backup.format import files, manifest, names, readme
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.prune import loss
from pgtasks.backup.store.base import Draft
from pgtasks.errors import Failed
from pgtasks.report import account
from pgtasks.report.version import __version__
from pgtasks.server.dump import pg_dump
from pgtasks.server.dump.attempt import Dumped
from pgtasks.server.proof.entries import record
from pgtasks.server.proof.model import LEFT_OUT, Unproven
from pgtasks.server.proof.model import text as proof_text


def reconciled(job: Job, dumped: Dumped) -> Dumped:
    """Compare the proof with the dump's table of contents, and take the sequences from the dump."""
    if dumped.proof is None:
        return dumped
    entries = pg_dump.contents(job.store.host, dumped.plan.layout, dumped.plan.path)
    dumped_oids = {entry.oid for entry in entries if entry.desc == "TABLE DATA"}
    absent = {str(table) for table in dumped.content.tables if table.oid not in dumped_oids}
    if absent and not job.options.exclude_table_data and not job.options.schema_only:
        raise Failed(f"pg_dump left out the rows of {', '.join(sorted(absent))}")
    proof = replace(
        dumped.proof,
        tables=tuple(table for table in dumped.proof.tables if str(table) not in absent),
        sequences=pg_dump.sequences(entries),
        schema=record(entries),
        unproven=(
            *dumped.proof.unproven,
            *(Unproven(f"table {name}", LEFT_OUT) for name in sorted(absent)),
        ),
    )
    return replace(dumped, proof=proof)


def write(
    job: Job, dumped: Dumped, draft: Draft, began: float, before: Manifest | None = None
) -> str:
    """Write the files beside the dump, the manifest last.

    Returns what the backup has lost against the one `before`, empty for nothing sudden.
    """
    path = draft.path
    has_globals = (path / names.GLOBALS).exists()
    made = _manifest(job, dumped, draft.id)
    files.write(path / names.DATABASE, _json(job.facts.as_json()))
    files.write(path / readme.SETTINGS, job.settings)
    if dumped.proof is not None:
        files.write(path / names.PROOF, proof_text(dumped.proof))
    passwords = job.options.globals_passwords
    words = readme.text(made, job.facts, has_globals=has_globals, passwords=passwords)
    files.write(path / readme.NAME, words)
    records = draft.records(max(2, job.target.jobs), _packed(dumped))
    files.write(path / files.SUMS, files.sums(records))
    records[files.SUMS] = files.record(path, files.SUMS)
    seconds = round(time.monotonic() - began, 3)
    made = replace(made, files=records, seconds=seconds)
    text = manifest.text(made)
    if len(text.encode()) > manifest.LIMIT:
        raise Failed(f"the dump has {len(records):,} files, too many for a manifest: take --jobs 1")
    lost = loss.between(before, made, job.target.backup.drop_warning) if before else ""
    if lost:  # in the folder before the backup is complete, so that no backup lacks it
        Retention(loss=lost).write(path)
    files.write(path / manifest.NAME, text)
    return lost


def _packed(dumped: Dumped) -> dict[str, FileRecord]:
    """Return the records of the files that were compressed here, and are on the disk."""
    folder = dumped.plan.path.name
    return {
        f"{folder}/{name}": FileRecord(packed.size, packed.sha256)
        for name, packed in dumped.packed.items()
    }


def _manifest(job: Job, dumped: Dumped, id: str) -> Manifest:
    return Manifest(
        id=id,
        environment=job.target.environment,
        database=job.target.database,
        system=job.source.system,
        server_version=job.source.server_version,
        server=job.source.server,
        dump_tool=job.toolset.version,
        layout=dumped.plan.layout,
        compression=dumped.plan.compression,
        snapshot_time=job.options.taken or dumped.snapshot_time,
        revision=dumped.revision,
        tables=dumped.content.number,
        rows=None if dumped.proof is None else dumped.proof.rows,
        uncounted=0 if dumped.proof is None else dumped.proof.uncounted,
        database_bytes=job.source.bytes,
        seconds=0.0,
        with_proof=dumped.proof is not None,
        note=job.options.note,
        schema_only=job.options.schema_only,
        excluded_data=job.options.exclude_table_data,
        warnings=dumped.warnings,
        obstacles=dumped.obstacles,
        made_by=account.who(),
        pgtasks=__version__,
    )


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
