"""feedback.zip: a page for each student, named as the place that takes it back wants it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from ..files import safe_name
from .class_results import ClassResults
from .feedback import student_body, student_page


def feedback_zip(results: ClassResults, names: Mapping[str, str]) -> bytes:
    """Return the zip; the same grades give the same bytes. `names` are the students' by id.

    Where the name must be that of a notebook (Canvas takes a file back under its own name alone and
    gives it to the student so), the page is a cell of a notebook; where it must be a zip, it is in
    one.
    """
    files = {}
    for one in results.graded:
        name = results.return_names.get(one.student, f"{safe_name(one.student)}.html")
        given = (results.assignment, one, names.get(one.student, ""))
        suffix = PurePosixPath(name).suffix.lower()
        if suffix == ".ipynb":
            files[name] = _notebook(student_body(*given))
        elif suffix == ".zip":
            files[name] = _zip({"feedback.html": student_page(*given).encode("utf-8")})
        else:
            files[name] = student_page(*given).encode("utf-8")
    return _zip(files)


def _zip(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _notebook(body: str) -> bytes:
    """A notebook with one cell of text; signs that begin a formula there are spelled out."""
    source = body.replace("$", "&#36;").replace("\\", "&#92;").splitlines(keepends=True)
    cell = {"cell_type": "markdown", "id": "feedback", "metadata": {}, "source": source}
    whole = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
