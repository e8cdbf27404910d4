"""One way to run the sections of a benchmark: a table for each, its rows kept in a file."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["run"]


def run(sections: Mapping[str, Callable[[], Iterator[dict[str, Any]]]], results: Path, about: str) -> None:
    """Of the sections that the command line names, by default all: print the table, keep the rows."""
    parser = argparse.ArgumentParser(
        description=about.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            f"  {name}: {(section.__doc__ or '').splitlines()[0]}" for name, section in sections.items()
        ),
    )
    parser.add_argument("sections", nargs="*", choices=[*sections, []], help="default: all")
    for name in parser.parse_args().sections or sections:
        rows: list[dict[str, Any]] = []
        print(f"\n**{name}**: {(sections[name].__doc__ or '').splitlines()[0]}\n", flush=True)
        for row in sections[name]():
            if not rows:
                print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
            rows.append(row)
            print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
        kept = json.loads(results.read_text()) if results.exists() else {}
        results.write_text(json.dumps({**kept, name: rows}, indent=1) + "\n")
