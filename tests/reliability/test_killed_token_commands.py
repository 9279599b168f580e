"""``atm token`` that is killed at any moment, or read at any moment, leaves a whole file with every printed token."""

import random
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from support.atm_process import AtmProcess, run_atm
from support.evidence import Rounds

from atm_adapters.front_ends.http.tokens import read_entries


def test_killed_command_leaves_a_whole_file(tmp_path: Path, rounds: Rounds) -> None:
    file = tmp_path / "tokens.toml"
    add = ["--may", "read", "--account", "0", "--tokens", str(file)]
    assert run_atm("token", "add", "first", *add).returncode == 0
    printed = {"first"}
    moments = random.Random(16)
    is_done = Event()

    def read_all_the_time() -> None:
        while not is_done.is_set():
            assert "first" in read_entries(str(file))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_all_the_time)
        try:
            for number in range(rounds(40, 1000)):
                with AtmProcess(
                    "token", "add", f"t{number}", *add, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                ) as command:
                    try:
                        command.wait(timeout=moments.uniform(0, 0.3))
                    except subprocess.TimeoutExpired:
                        command.send_signal(signal.SIGKILL)
                    output, _ = command.communicate(timeout=60)
                if output.endswith("\n"):
                    printed.add(f"t{number}")
                assert printed <= set(read_entries(str(file)))
        finally:
            is_done.set()
        reading.result()
    assert len(printed) > 1
    assert run_atm("token", "add", "last", *add).returncode == 0, "no lock is left"
