"""The image and the compose file name only things that exist."""

from pathlib import Path
from typing import Any

import yaml

from core.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_sets_only_settings_that_exist() -> None:
    known = {f"GRAFT_{name.upper()}" for name in Settings.model_fields} | {"GRAFT_LOG"}
    named = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    ours = {name for name in named if name.startswith("GRAFT_")}
    assert ours
    assert ours <= known


def test_compose_settings_are_valid_settings() -> None:
    environment = COMPOSE["services"]["api"]["environment"]
    values = {name.removeprefix("GRAFT_").lower(): value for name, value in environment.items()}
    assert Settings.model_validate(values).broker_url == "redis://redis:6379/0"


def test_only_this_machine_reaches_the_api() -> None:
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"]["api"]["ports"])


def test_images_copy_every_room_and_run_as_a_plain_user() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for target in ("api", "worker"):
        part = text.split(f"AS {target}\n")[1].split("\nFROM ")[0]
        for room in ("core", "app", "worker", "graftd", "migrations"):
            assert f"COPY {room} {room}" in part, f"{target} lacks {room}"
        assert "USER 10001:10001" in part


def test_every_command_of_the_compose_file_is_a_graftd_command() -> None:
    from graftd.cli import app

    commands = set(app.commands)
    used = {
        service["command"][0] for name, service in COMPOSE["services"].items() if name in ("migrate", "api", "worker")
    }
    assert used == {"migrate", "api", "worker"}
    assert used <= commands
