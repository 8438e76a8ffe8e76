"""The engine alone, without a service: `python -m worker.engine --source FOLDER_OR_ZIP --out DIR`."""

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from core.contract.base import new_id
from core.contract.errors import GraftError, InvalidRequestError
from core.contract.jobs import JobSpec, TargetLabels
from core.contract.methods import METHODS
from core.contract.reports import Ranking, Report
from core.modality.ingest import ingest
from core.settings import Settings
from worker.engine import run
from worker.engine.backbones import own
from worker.engine.door import DataRef, Inputs, Places, SuspendedError, Wish

_CHUNK = 4 * 1024 * 1024
SUSPENDED = 75  # exit code: EX_TEMPFAIL of sysexits.h


class _Console:
    """Prints what happens, keeps the last checkpoint, and hears the signals to end."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._checkpoint: Path | None = None
        self.wish: Wish = "go_on"

    def sink(self, kind: str, data: dict[str, Any]) -> None:
        """Take an event."""
        if kind == "step" and data["state"] == "done":
            _say(f"{data['name']:<10} {data['seconds']:8.2f} s  {data['note']}")
        elif kind == "metric":
            _say("  " + "  ".join(f"{name} {value:.4g}" for name, value in data.items()))
        elif kind == "message":
            _say(data["text"])
        elif kind == "checkpoint":
            before, self._checkpoint = self._checkpoint, self._out / data["file"]
            if before is not None and before != self._checkpoint:
                before.unlink(missing_ok=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM suspend the run, once."""
        before = {number: signal.signal(number, self._suspend) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def remedy(self) -> str:
        """How to go on."""
        if self._checkpoint is None:
            return "nothing was trained yet, so the same command starts anew; with --cache it keeps embedded features"
        return f"go on by the same command with --resume {self._checkpoint}"

    def discard(self) -> None:
        """The run is over: its checkpoint is of no use any more."""
        if self._checkpoint is not None:
            self._checkpoint.unlink(missing_ok=True)

    def _suspend(self, number: int, _frame: object) -> None:
        self.wish = "suspend"
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job; returns the exit code. Ctrl-C or SIGTERM suspends it, a second one ends it at once."""
    arguments = _parser().parse_args(argv)
    console = _Console(arguments.out)
    try:
        with console.listening():
            report = _run(arguments, console)
    except SuspendedError:
        _say(f"suspended: {console.remedy()}", sys.stderr)
        return SUSPENDED
    except GraftError as error:
        _say(f"{error.code}: {error.message}", sys.stderr)
        if error.hint:
            _say(error.hint, sys.stderr)
        return 1
    console.discard()
    _say(summary(report))
    _say(f"written to {arguments.out}: {'report.json' if report.model_id is None else 'model.zip, report.json'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.engine", description="Run one adaptation job.")
    parser.add_argument("--source", type=Path, help="folder or archive of class folders to learn from")
    parser.add_argument("--evaluation", type=Path, help="folder or archive to measure on, all of it")
    parser.add_argument("--target", type=Path, help="folder or archive of the new domain to adapt to")
    parser.add_argument(
        "--target-labels",
        default="evaluation",
        choices=get_args(TargetLabels),
        help="what labels of the target may be used for",
    )
    parser.add_argument("--method", default="linear_probe", choices=sorted(METHODS))
    parser.add_argument("--options", default="{}", metavar="JSON", help="the method's options, e.g. '{\"epochs\": 5}'")
    parser.add_argument(
        "--base-model",
        help="a card's id, `timm:<name>`, `hf:<name>`, or the model.zip of an earlier run; default: the modality's",
    )
    parser.add_argument("--target-base-model", help="likewise, of a target of another modality")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.zip and report.json")
    parser.add_argument("--cache", type=Path, help="folder for features and graphs, to be used again")
    parser.add_argument("--weights", type=Path, help="folder with weights files")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, metavar="FILE", help="checkpoint of a suspended run to go on from")
    return parser


def _run(arguments: argparse.Namespace, console: _Console) -> Report:
    options = _options(arguments.method, arguments.options)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name:
        scratch = Path(name)
        source, evaluation, target = (
            None if data is None else refer(data, scratch, arguments.seed)
            for data in (arguments.source, arguments.evaluation, arguments.target)
        )
        parent = _parent(arguments.base_model)
        spec = JobSpec(
            method=options,
            base_model=arguments.base_model if parent is None else own.manifest(parent).model_id,
            source=source.id if source else None,
            evaluation=evaluation.id if evaluation else None,
            target=target.id if target else None,
            target_labels=arguments.target_labels,
            target_base_model=arguments.target_base_model,
            seed=arguments.seed,
        )
        places = Places(
            out=out,
            cache=arguments.cache or scratch / "cache",
            weights=arguments.weights,
            device=arguments.device,
            threads=arguments.threads,
        )
        checkpoint = _existing(arguments.resume)
        inputs = Inputs(new_id("job"), new_id("mdl"), source, evaluation, parent, checkpoint=checkpoint, target=target)
        report = run(spec, inputs, places, sink=console.sink, should_stop=lambda: console.wish).report
    (out / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    return report


def _parent(base_model: str | None) -> Path | None:
    """The bundle of a model that an earlier run made, where that is what is named."""
    if base_model is None or not base_model.endswith(".zip"):
        return None
    bundle = Path(base_model)
    if not bundle.is_file():
        raise InvalidRequestError(
            f"There is no {bundle}.", code="no_such_file", hint="Give the model.zip of an earlier run, or a card's id."
        )
    return bundle


def _options(method: str, text: str) -> Any:
    """The method's options out of JSON; `InvalidRequestError` names the field that is wrong."""
    try:
        return METHODS[method].model_validate({"name": method, **json.loads(text)})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        near = get_close_matches(field, METHODS[method].model_fields, n=1)
        raise InvalidRequestError(
            f"--options: {field}: {first['msg']}.",
            code="invalid_options",
            param=f"method.{field}",
            hint=f"Did you mean {near[0]}?" if near and near[0] != field else None,
        ) from error
    except (json.JSONDecodeError, TypeError) as error:
        raise InvalidRequestError(
            "--options is not a JSON object.", code="invalid_options", hint='For example: {"epochs": 5}'
        ) from error


def refer(data: Path, scratch: Path, seed: int) -> DataRef:
    """Ingest a folder or an archive as the service does, into the folder `scratch`."""
    if not data.exists():
        raise InvalidRequestError(f"There is no {data}.", code="no_such_file", hint="Give a folder or a zip or tar.")
    archive = _zipped(data, scratch) if data.is_dir() else data
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    unpacked = Path(tempfile.mkdtemp(dir=scratch))
    found = ingest(archive, sha256, limits=Settings(), seed=seed, scratch=unpacked)
    for fault in found.report.faults:
        if fault.severity != "info":
            _say(f"{data.name}: {fault.message} {fault.remedy}", sys.stderr)
    text = found.manifest.model_dump_json().encode()
    manifest = unpacked / "manifest.json"
    manifest.write_bytes(text)
    return DataRef(new_id("ds"), manifest, hashlib.sha256(text).hexdigest(), found.content or archive)


def _zipped(folder: Path, scratch: Path) -> Path:
    """The folder's files as an archive; the same files make the same bytes, so that a cache knows them again."""
    archive = scratch / f"{new_id('req')}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(part for part in folder.rglob("*") if part.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.file_size = path.stat().st_size
            with packed.open(entry, "w") as member, path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    member.write(chunk)
    return archive


def _existing(checkpoint: Path | None) -> Path | None:
    if checkpoint is not None and not checkpoint.is_file():
        raise InvalidRequestError(
            f"There is no {checkpoint}.", code="no_such_file", hint="A suspended run prints its checkpoint's path."
        )
    return checkpoint


def summary(report: Report) -> str:
    """The report in a few lines."""
    if report.ranking is not None:
        return ranked(report.ranking)
    lines = [
        f"{report.method} from {report.base_model}: {len(report.classes)} classes; {report.train_items} training, "
        f"{report.validation_items} validation, {report.held_out_items} held-out items"
    ]
    for metric in report.metrics:
        between = "" if metric.low is None or metric.high is None else f"  ({metric.low:.4f} to {metric.high:.4f})"
        lines.append(f"{metric.name:<10} {metric.value:.4f}{between}")
    return "\n".join([*lines, *(f"- {note}" for note in report.notes)])


def ranked(found: Ranking) -> str:
    """A ranking in a few lines."""
    lines = [
        f"{one.rank:>3}  {one.base_model:<32} {one.score:.4f}  probe {one.probe:.4f}  neighbours {one.knn:.4f}  "
        f"{1000 / (one.items_per_second or 1):.1f} s per 1,000 items"
        if one.rank is not None
        else f"  -  {one.base_model:<32} {one.state}: {one.note}"
        for one in found.candidates
    ]
    return "\n".join([*lines, found.sentence])


def _say(text: str, stream: Any = None) -> None:
    (stream or sys.stdout).write(text + "\n")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread that is stuck in a read must not keep the process from ending
