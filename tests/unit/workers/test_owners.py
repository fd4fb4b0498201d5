import subprocess
import sys

from app.workers.owners import is_gone, owner_name


def test_this_process_is_not_gone() -> None:
    assert not is_gone(owner_name())


def test_two_names_of_one_process_differ() -> None:
    assert owner_name() != owner_name()


def test_a_process_that_ended_is_gone() -> None:
    code = "from app.workers.owners import owner_name; print(owner_name())"
    named = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert is_gone(named.stdout.strip())


def test_a_process_that_took_over_a_pid_is_another_one() -> None:
    host, place, process, name = owner_name().split("/")
    pid, _, started_at = process.partition(".")
    assert is_gone(f"{host}/{place}/{pid}.{int(started_at) - 1}/{name}")


def test_nothing_is_said_of_processes_elsewhere() -> None:
    assert not is_gone("other-host/0123456789ab/1.5/abc")
    assert not is_gone("a name of another form")
