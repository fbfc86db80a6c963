"""Accounts of a machine: written into its own files, as an administrator would."""

from __future__ import annotations

from machines import Machine

# what each shell reads even where it only runs a command
_READ = (".bashrc", ".zshenv", ".cshrc", ".config/fish/config.fish")


def furnish(machine: Machine) -> None:
    """Leave a machine no account of a person's, no key and no right of this one."""
    path = machine.path
    kept = [line for line in path("/etc/passwd").read_text().splitlines() if _of_system(line)]
    path("/etc/passwd").write_text("\n".join(kept) + "\n")
    sudoers = path("/etc/sudoers")
    sudoers.unlink(missing_ok=True)
    sudoers.write_text("root ALL=(ALL:ALL) ALL\n")
    sudoers.chmod(0o440)
    machine.do("sh", "-c", "rm -rf /etc/ssh && mkdir /etc/ssh")
    path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{machine.address} {machine.name}\n")


def _of_system(line: str) -> bool:
    number = int(line.split(":")[2])
    return number < 1000 or number == 65534


def add_account(
    machine: Machine, name: str, *, shell: str = "/bin/sh", home: str = "", sudo: bool = False
) -> None:
    """Make an account without a password; `sudo` lets it run everything as postgres."""
    number = max([2000, *(uid for uid in machine.accounts() if uid < 60000)]) + 1
    home = home or f"/home/{name}"
    lines = {
        "passwd": f"{name}:x:{number}:{number}::{home}:{shell}",
        "group": f"{name}:x:{number}:",
        "shadow": f"{name}:*:19000:0:99999:7:::",
        **({"sudoers": f"{name} ALL=(postgres) NOPASSWD: ALL"} if sudo else {}),
    }
    for file, line in lines.items():
        with machine.path(f"/etc/{file}").open("a") as out:
            out.write(line + "\n")
    machine.do("install", "-d", "-o", name, "-g", name, "-m", "755", home)


def write_greeting(machine: Machine, home: str, words: str) -> None:
    """Let every shell of an account print some words first, whatever it is to run."""
    for file in _READ:
        path = machine.path(f"{home}/{file}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"echo '{words}'\n")
