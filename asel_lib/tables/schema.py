"""A kind of table: its columns are the fields of a pydantic model, which checks every cell that is read or written."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, get_args, get_origin

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from asel_lib.errors import AselError
from asel_lib.files import replace_text

AGAIN = "run the benchmark again to write it anew"


def none_if_empty(value: object) -> object:
    """None for a cell in which nothing stands."""
    empty = value is None or value != value or (isinstance(value, str) and value.strip().lower() in ("", "nan"))
    return None if empty else value


Text = Annotated[str, Field(min_length=1)]
Words = Annotated[str, BeforeValidator(lambda value: "" if value is None or value != value else value)]  # may be ""
Whole = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
MaybeWhole = Annotated[Whole | None, BeforeValidator(none_if_empty)]
MaybeNumber = Annotated[Number | None, BeforeValidator(none_if_empty)]
MaybeShare = Annotated[Share | None, BeforeValidator(none_if_empty)]


class Row(BaseModel):
    """Of what every kind of row is made. A field with a default is a column that an older file may lack."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class Schema:
    """A kind of table.

    Args:
        name: what the table holds, for errors.
        row: makes the model of a row; asked once, when the first table of the kind is met.
        more: the type of columns beyond the declared ones; None: they are left out.
    """

    def __init__(self, name: str, row: Callable[[], type[Row]], more: object = None):
        self.name, self._make, self._more = name, row, more

    @functools.cached_property
    def row(self) -> type[Row]:
        """The model of a row."""
        return self._make()

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The declared columns, in their order in a file."""
        return tuple(field.alias or name for name, field in self.row.model_fields.items())

    @functools.cached_property
    def required(self) -> tuple[str, ...]:
        """The columns that every file has."""
        fields = self.row.model_fields.items()
        return tuple(field.alias or name for name, field in fields if field.is_required())

    @functools.cached_property
    def _dtypes(self) -> dict[str, str]:
        fields = self.row.model_fields.items()
        return {field.alias or name: _dtype(field.annotation) for name, field in fields}

    def empty(self) -> pd.DataFrame:
        """A table of this kind without rows."""
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in self._dtypes.items()})

    def checked(self, frame: pd.DataFrame, where: str) -> pd.DataFrame:
        """The rows with the columns of this kind, in its types.

        Args:
            frame: the rows; cells may be text.
            where: the file, for errors.

        Raises:
            AselError: naming file, column and row where a column is missing or a cell holds what it cannot.
        """
        if missing := [name for name in self.required if name not in frame.columns]:
            raise AselError(f"{where}: not a table of {self.name}, it lacks the column(s) {', '.join(missing)}")
        more = [] if self._more is None else [name for name in frame.columns if name not in self.columns]
        records = frame[[name for name in frame.columns if name in self.columns or name in more]].to_dict("records")
        try:
            rows = self._adapter.validate_python(records)
            further = {name: _cells(self._more).validate_python([row[name] for row in records]) for name in more}
        except ValidationError as error:
            raise AselError(f"{where}: {_named(error)}; {AGAIN}") from None
        found = pd.DataFrame([row.model_dump(by_alias=True) for row in rows], columns=list(self.columns))
        found = found.astype(self._dtypes) if len(found) else self.empty()
        return found.assign(**further)

    def read(self, path: str | os.PathLike) -> pd.DataFrame:
        """The rows of a file.

        Raises:
            AselError: naming the file where it is missing, empty or no CSV, and as `checked`'s.
        """
        path = Path(path)
        if not path.is_file():
            raise AselError(f"{path}: no such results file; run the benchmark first")
        try:
            # As text: a commit such as 12e4567 is no number, and a class may be called "null".
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        except pd.errors.EmptyDataError:
            raise AselError(f"{path}: the table is empty; {AGAIN}") from None
        except (OSError, ValueError, OverflowError, pd.errors.ParserError) as error:
            raise AselError(f"{path}: not a CSV file of results ({error}); {AGAIN}") from error
        if not isinstance(frame.index, pd.RangeIndex):
            raise AselError(f"{path}: not a CSV file of results (rows are longer than the header); {AGAIN}")
        if frame.empty and set(self.required) <= set(frame.columns):
            raise AselError(f"{path}: the table has a header and no rows; {AGAIN}")
        return self.checked(frame, str(path))

    def write(self, frame: pd.DataFrame, path: str | os.PathLike) -> Path:
        """Write the table; what was there stays whole until the new file is. Columns that a file may lack, and that
        hold nothing, are left out.

        Args:
            frame: the rows.
            path: of the CSV file.

        Returns:
            The file.

        Raises:
            AselError: as `checked`'s, and where the file cannot be written.
        """
        path = Path(path)
        found = self.checked(frame, str(path))
        unused = [name for name in self.columns if name not in self.required and found[name].isna().all()]
        found = found.drop(columns=unused)
        whole = {
            name: "Int64" for name, kind in self._dtypes.items() if name in self._whole & {*found} and kind == "float64"
        }
        try:
            replace_text(path, found.astype(whole).to_csv(index=False))
        except OSError as error:
            raise AselError(f"{path} could not be written: {error}") from error
        return path

    @functools.cached_property
    def _adapter(self) -> TypeAdapter:
        return TypeAdapter(list[self.row])

    @functools.cached_property
    def _whole(self) -> frozenset[str]:
        fields = self.row.model_fields.items()
        return frozenset(field.alias or name for name, field in fields if int in _kinds(field.annotation))


def _cells(kind: object) -> TypeAdapter:
    return TypeAdapter(list[kind])


def _kinds(annotation: object) -> set[object]:
    """The plain types in an annotation."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    inner = get_args(annotation)
    return set().union(*(_kinds(part) for part in inner)) if inner else {annotation}


def _dtype(annotation: object) -> str:
    kinds = _kinds(annotation)
    if kinds == {int}:
        return "int64"
    if kinds - {NoneType} <= {int, float}:
        return "float64"
    return "bool" if kinds == {bool} else "object"


def _named(error: ValidationError) -> str:
    """The first thing that is wrong, with its column and row."""
    first = error.errors(include_url=False)[0]
    row, *column = first["loc"]
    name = f"column {column[0]}" if column else "a column"
    wrong = f"row {int(row) + 1}, {name} holds {first['input']!r}"
    others = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{wrong}: {first['msg'][:1].lower()}{first['msg'][1:]}{others}"
