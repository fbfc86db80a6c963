"""The same tasks over SSH on loopback, against ssh and scp with the stock tools."""

from __future__ import annotations

import json
from dataclasses import replace

from bench import sshd
from bench.contest import Bench, Contender
from bench.measure import Sample, tree_size
from bench.rows import Row, alone, compared, peak, size
from bench.sshd import Sshd
from bench.workspace import TINY, Workspace
from pgtasks import report

NAME = "remote"
OURS, UNPROVEN = "`inv db.backup`", "`inv db.backup --no-proof`"
TYPED = "`ssh host pg_dump -Fc -Z1`"
FETCH, SEND, COPY = "`inv backup.fetch latest`", "`inv backup.send latest`", "`scp -r`"
CHECK, LOGIN = "`inv db.check`", "`ssh host true`"


def run(bench: Bench) -> list[Row]:
    """Return streamed backup, fetch, and what an idle task costs."""
    if sshd.program() is None:
        report.say("  not run: there is no sshd here (openssh-server)")
        return []
    bench.space.load(bench.scale)
    bench.space.load(TINY)
    with sshd.running(bench.space.room / "sshd") as there:
        space = _Remote(bench.space, there)
        moved = [*_fetched(bench, space), *_sent(bench, space)]
        return [*_streamed(bench, space), *moved, _idle(bench, space)]


class _Remote:
    """The workspace with a -f file that leads every environment over SSH."""

    def __init__(self, space: Workspace, there: Sshd) -> None:
        self.space, self.sshd = space, there
        self.settings = space.room / "over-ssh.yaml"
        self.far = space.room / "far"
        block = there.block(bin=str(space.server.bin), backups=str(self.far))
        lines = [f"    {name}: {{ssh: {block}}}" for name in space.environments()]
        self.settings.write_text("\n".join(["pgtasks:", "  environments:", *lines, ""]))

    def inv(self, *words: str) -> Sample:
        """Run `inv` over SSH."""
        return self.space.inv("-f", str(self.settings), *words)

    def ssh(self, script: str) -> Sample:
        """Run a shell line that uses ssh, as typed."""
        return self.space.shell(script.format(ssh=" ".join(self.sshd.client("ssh"))))

    def scp(self, source: str, target: str) -> Sample:
        """Copy a folder from the host or to it."""
        client = " ".join(self.sshd.client("scp"))
        return self.space.shell(f"{client} -q -r '{source}' '{target}'")


def _streamed(bench: Bench, remote: _Remote) -> list[Row]:
    space, scale = bench.space, bench.scale
    own, file = space.backups(scale), space.dumps / "streamed"
    dump = f"{{ssh}} bench {space.server.bin}/pg_dump -h {space.server.sockets} -U postgres"

    def typed() -> Sample:
        sample = remote.ssh(f"{dump} -Fc -Z1 {scale} > '{file}' && sync '{file}'")
        return replace(sample, size=tree_size(file))

    def ours(*flags: str) -> Sample:
        sample = remote.inv("db.backup", "--env", scale, *flags)
        return replace(sample, size=tree_size(own))

    found = bench.contest(
        NAME,
        [
            Contender(OURS, ours, lambda: space.clear(own)),
            Contender(UNPROVEN, lambda: ours("--no-proof"), lambda: space.clear(own)),
            Contender(TYPED, typed, lambda: space.clear(file)),
        ],
    )
    proven, unproven, stock = ((name, found[name]) for name in (OURS, UNPROVEN, TYPED))
    return [
        compared(NAME, "backup streamed over SSH", proven, stock),
        compared(NAME, "backup streamed over SSH", unproven, stock),
        compared(NAME, "size of the streamed backup", proven, stock, pick=size, unit="bytes"),
        alone(NAME, "peak memory, streaming", proven, pick=peak, unit="bytes"),
    ]


def _fetched(bench: Bench, remote: _Remote) -> list[Row]:
    space, scale = bench.space, bench.scale
    own, copied = space.backups(scale), space.dumps / "copied"
    made = remote.inv("db.backup", "--env", scale, "--on-host", "--no-proof", "--json")
    id = json.loads(made.output)["id"]
    source = next(remote.far.glob(f"*/*/{id}"))
    ours = Contender(
        FETCH, lambda: remote.inv("backup.fetch", id, "--env", scale), lambda: space.clear(own)
    )
    typed = Contender(
        COPY, lambda: remote.scp(f"bench:{source}", str(copied)), lambda: space.clear(copied)
    )
    return _moved(bench, f"fetch of a backup of {report.size(tree_size(source))}", ours, typed)


def _sent(bench: Bench, remote: _Remote) -> list[Row]:
    space, scale = bench.space, bench.scale
    copied = space.dumps / "copied"
    space.backed_up(scale)
    source = next(space.backups(scale).glob(f"{scale}/[!.]*"))
    ours = Contender(
        SEND,
        lambda: remote.inv("backup.send", source.name, "--env", scale),
        lambda: space.clear(remote.far),
    )
    typed = Contender(
        COPY, lambda: remote.scp(str(source), f"bench:{copied}"), lambda: space.clear(copied)
    )
    return _moved(bench, f"send of a backup of {report.size(tree_size(source))}", ours, typed)


def _moved(bench: Bench, what: str, ours: Contender, typed: Contender) -> list[Row]:
    samples = bench.contest(NAME, [ours, typed])
    mover = (ours.name, samples[ours.name])
    return [
        compared(NAME, what, mover, (typed.name, samples[typed.name])),
        alone(NAME, f"peak memory, {what.split()[0]}", mover, pick=peak, unit="bytes"),
    ]


def _idle(bench: Bench, remote: _Remote) -> Row:
    found = bench.contest(
        NAME,
        [
            Contender(CHECK, lambda: remote.inv("db.check", "--env", TINY)),
            Contender(LOGIN, lambda: remote.ssh("{ssh} bench true")),
        ],
        reps=bench.reps * 3,
    )
    return compared(NAME, "an idle task over SSH", (CHECK, found[CHECK]), (LOGIN, found[LOGIN]))
