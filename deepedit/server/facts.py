"""Small facts about images and label maps that clients want to be remembered, such as a reviewer's verdict."""

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from deepedit.errors import DeepEditError
from deepedit.files import MAX_JSON_BYTES, one_line, parse_json, read_json
from deepedit.server.durable import sync_file, sync_folder, unfinished
from deepedit.server.errors import TooLarge

MAX_BYTES = 2**14
"""Of the facts about one image or label map."""


class Facts:
    """Facts by key, in a file of their own.

    Args:
        path: the JSON file, which need not exist. One that is damaged is kept under another name, and left alone.
        say: is told where that happens.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._facts: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                facts = read_json(path)
                if not all(isinstance(each, dict) for each in facts.values()):
                    raise DeepEditError(f"{one_line(path)}: holds something else than facts")
                self._facts = facts
            except DeepEditError as error:
                aside = path.with_name(f"{path.name}.{datetime.now(timezone.utc):%Y%m%dT%H%M%S%fZ}.damaged")
                path.rename(aside)
                say(f"{error}; it is kept as {one_line(aside.name)}, and facts are collected anew")

    def get(self, key: str) -> dict[str, Any]:
        """The facts of a key, a copy; none if there are none."""
        with self._lock:
            return dict(self._facts.get(key, {}))

    def set(self, key: str, facts: Mapping[str, Any]) -> None:
        """Put facts in the place of those of a key; none removes it.

        Raises:
            DeepEditError: if they are no JSON object, or cannot be written.
            TooLarge: if they take more than 16 KiB.
        """
        if not isinstance(facts, Mapping):
            raise DeepEditError("facts about an image or a label map should be a JSON object in braces; correct them")
        try:
            # As it will be sent again, which half of a surrogate pair cannot be.
            content = json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise DeepEditError(f"facts should be plain JSON: {one_line(error, 100)}; correct them") from error
        if len(content) > MAX_BYTES:
            raise TooLarge(f"facts take {len(content)} bytes, and at most {MAX_BYTES} are kept; send fewer")
        parsed = parse_json(content, "facts", DeepEditError)
        with self._lock:
            if key not in self._facts and not facts:
                return
            changed = {**self._facts, key: parsed}
            if not facts:
                del changed[key]
            if len(json.dumps(changed, indent=1)) > MAX_JSON_BYTES:
                raise TooLarge("no more facts are kept about this folder; remove some of them")
            write_json(self.path, changed)
            self._facts = changed


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file such that it is on the disk as it was or as it should be."""
    with unfinished(path.parent, path.suffix, one_line(path.name)) as new:
        new.write_text(json.dumps(content, indent=1), encoding="utf-8")
        sync_file(new)
        new.replace(path)
        sync_folder(path.parent)
