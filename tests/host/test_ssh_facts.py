"""What hosts of several systems say of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgtasks.host import disk
from pgtasks.host.disk import Disk
from pgtasks.host.ssh import facts

DEBIAN = """\
clock\t1790000010.250000000
hostname\tdb1
system\tLinux 6.1.0 x86_64
distribution\tDebian GNU/Linux 12 (bookworm)
account\tdeploy
shell\t/bin/bash
home\t/srv/deploy
home_writable\tyes
cpus\t4
memory\t16000000
program tar\t/usr/bin/tar
program sha256sum\t/usr/bin/sha256sum
backups\t/srv/a b/backups
backups_rights\tdrwx------ deploy
backups_writable\tyes
disk /srv/a b/backups\t/dev/my disk 1000 400 600 40% /srv/a b
disk /tmp\ttmpfs 2000 0 2000 0% /tmp
"""
# no %N, no /etc/os-release, no /proc; a folder that is not there; a file system without a size
OTHER = """\
clock\t1790000000.N
hostname\tdb2
system\tOther 1 arm64
distribution\t
account\tdeploy
shell\t/bin/sh
home\t/
cpus\t
memory\t
backups\t/backups
disk /\tmap auto_home 0 0 0 - /home
disk /gone\t
"""


def test_a_whole_answer() -> None:
    found = facts.parsed(DEBIAN, 1790000000.0, 1790000000.5)
    assert (found.hostname, found.cpus, found.memory) == ("db1", 4, 16_384_000_000)
    assert (found.clock, found.doubt) == (10.0, 0.25)
    assert facts.described_clock(found) == "10.0 s before ours"
    assert found.backups.path == "/srv/a b/backups"
    assert facts.described_folder(found.backups) == "/srv/a b/backups (drwx------ deploy)"
    assert found.disks == (
        Disk("/srv/a b/backups", "/srv/a b", 1_024_000, 614_400),
        Disk("/tmp", "/tmp", 2_048_000, 2_048_000),
    )
    assert found.programs == {"tar": "/usr/bin/tar", "sha256sum": "/usr/bin/sha256sum"}
    assert "Debian GNU/Linux 12" in found.lines()[0]


def test_what_a_host_does_not_say_is_open() -> None:
    found = facts.parsed(OTHER, 1790000000.2, 1790000000.4)
    assert (found.cpus, found.memory, found.distribution) == (0, 0, "")
    assert (found.home_writable, found.programs) == (False, {})
    assert facts.described_folder(found.backups) == (
        "/backups (to be made, which this account may not)"
    )
    assert [disk.mount for disk in found.disks] == ["/home"]
    # whole seconds: half of one is the least doubt
    assert (found.clock, found.doubt) == (0.2, 0.6)
    assert facts.described_clock(found) == "as ours, within 0.6 s"
    assert "not writable" in found.lines()[0]


@pytest.mark.parametrize(
    ("clock", "said"), [(-3.0, "3.0 s behind ours"), (0.04, "as ours, within 0.1 s")]
)
def test_clocks(clock: float, said: str) -> None:
    found = facts.parsed(DEBIAN, 1790000010.2, 1790000010.3)
    assert facts.described_clock(replace(found, clock=clock, doubt=0.05)) == said


def test_no_answer_at_all() -> None:
    found = facts.parsed("", 1.0, 2.0)
    assert found.hostname == ""
    assert facts.described_clock(found) == "not known"


def test_df_with_its_heading_and_a_file_system_of_two_words() -> None:
    text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a b 10 4 6 40% /srv\n"
    assert disk.parse("/srv/x", text) == Disk("/srv/x", "/srv", 10_240, 6_144)
