"""The section `[approval]` of the settings: before which flips a person is asked, for how long, and who may answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Tokens = Literal["optional", "required"]


class ApprovalSettings(BaseModel):
    """A person's word before a flip."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    before: Literal["cutover_only", "every_flip", "never"] = Field(
        default="cutover_only", description="the flips that a person must approve"
    )
    below_risk: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="a plan made for a lower risk than this (the source's score, in units of capacity) needs nobody's"
        " approval",
    )
    timeout_s: float = Field(
        default=86_400.0,
        ge=1,
        le=31_536_000,
        description="a question that nobody has answered by then has expired",
    )
    on_expiry: Literal["ask_again", "abort"] = Field(
        default="ask_again",
        description="then: run the checks again and ask anew, or give the migration up",
    )
    tokens: Tokens = Field(
        default="optional",
        description="required: nobody answers without an approver's token; optional: only those who have one need it",
    )
