"""What every file that users write is checked with: the base class of its models, and types of one line of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from h2sim.io.kept import cached_property
from h2sim.io.units import read_number


class Frozen(BaseModel):
    """A model that cannot be changed and whose copies are checked like files. Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, ignored_types=(cached_property,))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with the fields in `update` changed, checked as a whole.

        Raises pydantic.ValidationError for a value that cannot be, KeyError for a field that does not exist.
        """
        if not update:
            return super().model_copy(deep=deep)
        unknown = [name for name in update if name not in type(self).model_fields]
        if unknown:
            raise KeyError(f"{type(self).__name__} has no field {unknown[0]!r}")
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate({**kept, **update})


class Strict(Frozen):
    """A Frozen model that refuses unknown fields: what people write by hand.

    RENAMED: for fields that earlier versions of the file called otherwise, old dotted path -> new dotted path, as seen
    from the whole file. Errors answer an old name with the new one.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Whole floats as integers, `800 MHz` as hertz: see h2sim.io.units."""
        name = info.field_name or ""
        return read_number(value, name, cls.model_fields[name].annotation)

    model_config = ConfigDict(extra="forbid", frozen=True)


def one_line(text: str) -> str:
    """Returns the text. Raises ValueError unless it is one line of printable characters."""
    if not text.isprintable():
        raise ValueError(f"expected one line of printable text; got {text[:40]!r}")
    return text


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError(f"expected one line of printable text; got {text[:40]!r}")
    return one_line(text)


Text = Annotated[str, Field(min_length=1)]
Line = Annotated[str, Field(max_length=2000), AfterValidator(one_line)]  # may be empty
Name = Annotated[str, Field(strict=True, max_length=2000), AfterValidator(_name)]  # may not


FILE_VERSION = 1


def _known_version(version: int) -> int:
    if version != FILE_VERSION:
        raise ValueError(f"expected {FILE_VERSION}, the version of files that this h2sim reads; got {version}")
    return version


Version = Annotated[int, Field(strict=True), AfterValidator(_known_version)]  # of a file's format
