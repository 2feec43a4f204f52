"""The cluster files: Ray takes them, they differ where they may, and a node's environment is built once."""

import copy
import json
import os
import re
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[1]
AWS, ONPREM = ROOT / "cluster.yaml", ROOT / "docs" / "cluster-onprem.yaml"
FILES = [AWS, ONPREM]
OWN = {"provider", "auth", "max_workers", "head_node_type", "available_node_types", "initialization_commands"}
"""What a kind of cluster has of its own: who gives machines, how one gets in, what they are."""
COMMANDS = (
    "initialization_commands",
    *("setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)


def loaded(path: Path) -> dict[str, Any]:
    """A file as YAML."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def requirements() -> list[Requirement]:
    """What pyproject.toml asks of a node."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def pinned() -> dict[str, str]:
    """Version by name of the constraints."""
    lines = (ROOT / "cluster" / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ray_takes_the_file(path: Path) -> None:
    """Fault: a key that Ray does not know, or a value that it refuses: `ray up` would say so after a morning's work."""
    prepared = prepare_config(copy.deepcopy(loaded(path)))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_a_typing_error_is_seen() -> None:
    """Fault: the test above accepts anything."""
    config = loaded(AWS)
    config["setup_comands"] = config.pop("setup_commands")
    with pytest.raises(Exception, match="setup_comands"):
        validate_config(prepare_config(config))


def test_both_share_all_but_their_machines() -> None:
    """Fault: a repair of one file is missing in the other."""
    aws, onprem = ({key: value for key, value in loaded(path).items() if key not in OWN} for path in FILES)
    assert aws == onprem
    shared = [path.read_text().partition("# -- Everywhere the same")[2] for path in FILES]
    assert shared[0]
    assert shared[0] == shared[1]


def test_what_must_be_edited_is_marked() -> None:
    """Fault: a user's address, image or file system stands in a line without the mark."""
    own_values = re.compile(r"ami-|fs-0|10\.0\.0\.|us-east-1|id_ed25519|\.(24|48)xlarge|max_workers: [1-9]")
    for path in FILES:
        marked = 0
        for line in path.read_text().splitlines():
            code, mark, why = line.partition("# EDIT")
            if not line.strip().startswith("#") and own_values.search(code):
                assert mark, f"{path.name}: {line}"
            if mark:
                assert why.startswith(": "), line
                marked += 1
        assert 1 <= marked <= 7


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_are_shell(path: Path) -> None:
    """Fault: a quote that YAML ate."""
    commands = [command for key in COMMANDS for command in loaded(path).get(key, [])]
    assert len(commands) >= 8
    for command in commands:
        subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)


def test_ray_of_a_cluster_is_closed() -> None:
    """Fault: a node starts Ray without the token, or shows its dashboard to the network."""
    for path in FILES:
        config = loaded(path)
        starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
        begun = [command for command in starts if "ray start" in command]
        assert len(begun) == 2
        assert all("export RAY_AUTH_MODE=token" in command for command in begun)
        assert "--dashboard-host=127.0.0.1" in begun[0]
        assert any("chmod 600 ~/.ray/auth_token" in command for command in config["setup_commands"])
        assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_gpu_machines_prefer_the_spot_market() -> None:
    """Fault: the autoscaler takes the dear machines first, or finds no others when there are no cheap ones."""
    kinds = loaded(AWS)["available_node_types"]
    spot, on_demand = kinds["gpu_spot"], kinds["gpu_on_demand"]
    assert spot["priority"] > on_demand["priority"]
    assert spot["resources"] == on_demand["resources"]
    assert spot["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert not on_demand["node_config"].get("InstanceMarketOptions")
    assert spot["min_workers"] == on_demand["min_workers"] == 0


def test_gpu_machines_end_without_a_head() -> None:
    """Fault: a head that is lost leaves machines that nobody ends; or a machine of one's own, or the head, is shut
    down."""
    aws, onprem = loaded(AWS), loaded(ONPREM)
    assert "shutdown" not in ONPREM.read_text()
    assert onprem["initialization_commands"]
    kinds = aws["available_node_types"]
    assert "UserData" not in kinds["head"]["node_config"]
    for name in ("gpu_spot", "gpu_on_demand"):
        assert kinds[name]["node_config"]["InstanceInitiatedShutdownBehavior"] == "terminate"
        boot = kinds[name]["node_config"]["UserData"]
        assert boot.startswith("#!/bin/bash\n")
        subprocess.run(["bash", "-n"], input=boot, text=True, check=True)
    [command] = [command for command in aws["initialization_commands"] if "head_watch" in command]
    script = "~/golf-tune/cluster/head_watch.sh"
    assert script in command
    head = {"PATH": "/nowhere"}  # no sudo, which a head must not come to
    assert subprocess.run(["/bin/bash", "-c", command], env=head, check=False).returncode == 0
    worker = {"PATH": "/nowhere", "RAY_HEAD_IP": "10.0.0.1"}
    assert subprocess.run(["/bin/bash", "-c", command], env=worker, capture_output=True, check=False).returncode != 0


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[tuple["socket.socket", "subprocess.Popen[bytes]"]]:
    """A port of a head, and the script that watches it, a second for fifteen minutes; it touches the file "ended"."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        words = ["127.0.0.1", str(port.getsockname()[1]), "1", "0.1", str(tmp_path / "address")]
        script = ["bash", str(ROOT / "cluster" / "head_watch.sh"), *words, "touch", str(tmp_path / "ended")]
        with subprocess.Popen(script, stdout=subprocess.DEVNULL) as process:
            yield port, process
            process.kill()


def test_a_machine_ends_when_its_head_is_gone(
    watch: tuple[socket.socket, "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    """Fault: a machine that goes on without a head, that ends beside one, or at once when Ray starts again there."""
    port, process = watch
    time.sleep(1.3)
    assert process.poll() is None
    port.close()
    began = time.monotonic()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "ended").exists()
    assert time.monotonic() - began > 0.8


def test_a_new_head_counts(watch: tuple[socket.socket, "subprocess.Popen[bytes]"], tmp_path: Path) -> None:
    """Fault: a machine that works for a new head ends with the old one; a damaged file is run or taken for a head."""
    port, process = watch
    with socket.create_server(("127.0.0.1", 0)) as other:
        (tmp_path / "address").write_text(f"127.0.0.1:{other.getsockname()[1]}")
        time.sleep(0.3)
        port.close()
        time.sleep(1.5)
        assert process.poll() is None
    (tmp_path / "address").write_text(f"$(touch {tmp_path}/run):1")
    assert process.wait(timeout=60) == 0
    assert not (tmp_path / "run").exists()


def policy(name: str) -> list[dict[str, Any]]:
    """The statements of a policy that docs/cluster.md shows."""
    found = re.search(rf"(?ms)^{name}='(.*?)'$", (ROOT / "docs" / "cluster.md").read_text())
    assert found, name
    statements: list[dict[str, Any]] = json.loads(found[1].replace("'$BUCKET'", "golf"))["Statement"]
    return statements


def test_the_head_may_end_only_its_own_machines() -> None:
    """Fault: a leaked role of the head ends or renames other machines of the account, or starts some without its tag.

    The name in the conditions must be the one of cluster.yaml, or the head could start nothing.
    """
    cluster = loaded(AWS)["cluster_name"]
    dangerous = {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags"}
    named = set()
    for statement in policy("START"):
        actions = {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])
        resources = [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
        if not actions & dangerous:
            continue
        assert "*" not in resources
        if any("instance/" in resource for resource in resources):
            [values] = statement["Condition"].values()
            assert set(values.items()) & {
                ("aws:RequestTag/ray-cluster-name", cluster),
                ("aws:ResourceTag/ray-cluster-name", cluster),
                ("ec2:CreateAction", "RunInstances"),
            }
            named |= actions
    assert named == dangerous


def test_all_that_a_node_runs_goes_up() -> None:
    """Fault: a package of the project, or a file that the environment is built from, stays behind."""
    mounts = loaded(AWS)["file_mounts"]
    for remote, local in mounts.items():
        if not local.startswith("~"):
            assert (ROOT / local).exists(), local
            assert remote == f"~/golf-tune/{local}"
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= set(mounts.values())
    needed = {"pyproject.toml", "hatch_build.py", "README.md", "cluster", "run_sweep.py", "run_seeds.py"}
    assert needed <= set(mounts.values())


def test_constraints_are_what_the_project_asks_for() -> None:
    """Fault: a node's environment cannot be built, or is another than the one that was tested here."""
    versions = pinned()
    for requirement in requirements():
        name = requirement.name.lower().replace("_", "-")
        assert requirement.specifier.contains(versions[name]), requirement
    here = {dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    other = {
        name: (version, here[name])
        for name, version in versions.items()
        if name in here and here[name].partition("+")[0] != version
    }
    assert other == {}, "make the constraints anew, their first lines say how"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node's home and project, with a python3.11 that builds an empty environment in no time."""
    for name in ("pyproject.toml", "cluster/constraints.txt", "cluster/setup.sh"):
        (tmp_path / "golf-tune" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "golf-tune" / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "python3.11"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    (tmp_path / ".bashrc").write_text("case $- in *i*) ;; *) return;; esac\n")
    return tmp_path


FAKE = """#!/bin/bash
echo "$@" >>"$HOME/calls"
[ "$1 $2" = "-m pip" ] && [ -e "$HOME/fail" ] && exit 1
[ "$1 $2" = "-m venv" ] || exit 0
mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && touch "$4/bin/ray" && chmod +x "$4/bin/ray"
"""


def set_up(node: Path) -> int:
    """Run the script on the node."""
    environment = {"HOME": str(node), "PATH": f"{node / 'bin'}:{os.environ['PATH']}"}
    script = node / "golf-tune" / "cluster" / "setup.sh"
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    return done.returncode


def test_an_environment_is_built_once(node: Path) -> None:
    """Fault: `ray up` again builds again, an interrupted build counts as whole, an older one is changed in place."""
    (node / "fail").touch()
    assert set_up(node) != 0
    (node / "fail").unlink()
    assert set_up(node) == 0
    calls = (node / "calls").read_text().splitlines()
    assert any("--constraint" in call for call in calls)
    assert set_up(node) == 0
    first = (node / "golf-env" / "current").resolve()
    asked = (node / "calls").read_text().splitlines()[len(calls) :]
    assert [call for call in asked if "pip" in call or "venv --clear" in call] == []
    with (node / "golf-tune" / "cluster" / "constraints.txt").open("a") as file:
        file.write("# other\n")
    assert set_up(node) == 0
    assert (node / "golf-env" / "current").resolve() != first
    assert (first / ".complete").exists()


def test_login_shells_find_ray(node: Path) -> None:
    """Fault: `ray down` finds no ray in its shell, calls that success, and leaves all of it running."""
    assert set_up(node) == 0
    assert set_up(node) == 0
    for name in (".bashrc", ".profile"):
        assert (node / name).read_text().count("golf-tune") == 1
    for shell in (["bash", "--login", "-c"], ["bash", "--login", "-i", "-c"]):
        environment = {"HOME": str(node), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([*shell, "command -v ray"], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(node / "golf-env" / "current" / "bin" / "ray")
