"""How requests say what is made of a video."""

from typing import Annotated

from litestar.params import QueryParameter
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from backend.core.records import Codecs, CpuUsed, Crf, Rungs, TranscodeOptions
from backend.web.strict_requests import InvalidRequest, only_whole

CrfQuery = Annotated[int | None, QueryParameter(ge=0, le=63, description="AV1 quality; lower is better")]
CpuUsedQuery = Annotated[int | None, QueryParameter(ge=0, le=8, description="AV1 speed; higher is faster")]
CodecsQuery = Annotated[
    str | None, QueryParameter(description="comma-separated: of the server's video codecs, only these")
]
RungsQuery = Annotated[
    str | None,
    QueryParameter(description="comma-separated short sides of the pictures: 360,720"),
]


class TranscodeRequest(BaseModel):
    """Options for encoding a video."""

    model_config = ConfigDict(extra="forbid")

    crf: Crf | None = None
    cpu_used: CpuUsed | None = None
    codecs: Codecs | None = None
    rungs: Rungs | None = None

    _whole = field_validator("crf", "cpu_used", mode="before")(only_whole)

    def options(self) -> TranscodeOptions:
        """Raises: InvalidRequest."""
        return _checked(crf=self.crf, cpu_used=self.cpu_used, codecs=self.codecs, rungs=self.rungs)


def options_in_query(
    crf: int | None, cpu_used: int | None, codecs: str | None, rungs: str | None
) -> TranscodeOptions:
    """Raises: InvalidRequest."""
    return _checked(crf=crf, cpu_used=cpu_used, codecs=_split(codecs), rungs=_split(rungs))


def _split(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _checked(**wish: object) -> TranscodeOptions:
    try:
        return TranscodeOptions.model_validate(wish)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"{first['loc'][0]}: {first['msg']}") from None
