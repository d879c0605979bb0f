"""Ranks that srun has started find themselves."""

from __future__ import annotations

import pytest

from holdfast.config.slurm import adopt_slurm_ranks, first_host
from holdfast.errors import ConfigError

STEP = {
    **{"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "7", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"},
    **{"SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "4,3", "SLURM_STEP_NODELIST": "gpu[08,11]"},
}
"""The second task on the second of two machines."""


def adopted(**changes: str) -> dict[str, str]:
    environment = {**STEP, **changes}
    adopt_slurm_ranks(environment)
    return {name: value for name, value in environment.items() if not name.startswith("SLURM")}


def test_a_task_of_a_step_is_a_rank() -> None:
    found = adopted()
    assert 20_000 <= int(found.pop("MASTER_PORT")) < 40_000
    assert found == {"RANK": "5", "WORLD_SIZE": "7", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3", "MASTER_ADDR": "gpu08"}


def test_all_tasks_of_a_step_and_no_other_step_have_a_port_in_common() -> None:
    ports = [adopted(SLURM_PROCID=rank)["MASTER_PORT"] for rank in "0123456"]
    others = [adopted(**{name: value})["MASTER_PORT"] for name, value in (("SLURM_STEP_ID", "3"), ("SLURM_JOB_ID", "4712"))]
    assert len(set(ports)) == 1
    assert len({ports[0], *others}) == 3


def test_an_address_and_a_port_of_the_users_stay() -> None:
    found = adopted(MASTER_ADDR="10.0.0.1", MASTER_PORT="5")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.1", "5")


def test_ranks_of_torchrun_inside_a_step_are_those_of_torchrun() -> None:
    assert adopted(RANK="1", WORLD_SIZE="2") == {"RANK": "1", "WORLD_SIZE": "2"}


@pytest.mark.parametrize("environment", [{}, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, {**STEP, "SLURM_STEP_NUM_TASKS": "1"}])
def test_one_process_stays_one(environment: dict[str, str]) -> None:
    before = dict(environment)
    adopt_slurm_ranks(environment)
    assert environment == before


def test_a_task_that_does_not_know_its_number_is_refused() -> None:
    environment = {name: value for name, value in STEP.items() if name != "SLURM_PROCID"}
    with pytest.raises(ConfigError, match=r"SLURM_STEP_NUM_TASKS is 7, but SLURM_PROCID is not set"):
        adopt_slurm_ranks(environment)


@pytest.mark.parametrize(("counts", "here"), [("4(x2)", "4"), ("4,3", "3"), ("7", "7"), ("what", "7")])
def test_tasks_of_this_machine_are_counted(counts: str, here: str) -> None:
    assert adopted(SLURM_STEP_TASKS_PER_NODE=counts)["LOCAL_WORLD_SIZE"] == here


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("a1", "a1"), ("a1,b2", "a1"), ("gpu[3-6]", "gpu3"), ("gpu[03,07-09],x", "gpu03"), ("rack[1-2]-n5", "rack1-n5"), ("a,b[1-2]", "a")],
)
def test_the_first_host_is_found_in_lists_of_slurm(nodes: str, host: str) -> None:
    assert first_host(nodes) == host
