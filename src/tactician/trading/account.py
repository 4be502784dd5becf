"""The account file: which account, which part of it, which model, and the limits that no plan may pass."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from tactician.config_file import read_settings
from tactician.config_values import Named, NonNegativeInt, Place, PositiveInt, explain
from tactician.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def _number(value: Any) -> Any:
    """An account number as text. YAML reads digits alone as a number, and drops leading zeros."""
    if not isinstance(value, str):
        raise PydanticCustomError("quotes", "write the account number in quotes")
    if not re.fullmatch(r"[A-Za-z0-9]{3,40}", value):
        raise PydanticCustomError("number", "an account number has 3 to 40 letters and digits")
    return value


def _money(value: Any) -> Any:
    """An amount, or 'all'."""
    if value == "all":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise PydanticCustomError("money", "give an amount above zero, or all")
    return float(value)


class AccountFile(BaseModel):
    """What a user declares about an account. Frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    account: Annotated[str, BeforeValidator(_number)]
    """Number of the account, typed in quotes. The broker must report the same one."""
    checkpoint: Named
    """The model that decides."""
    broker: Literal["simulated", "alpaca"] = "simulated"
    """'simulated' fills by the ledger on this computer. 'alpaca' sends orders; its keys come from the environment."""
    live: bool = False
    """Whether the account is of real money. Without it a live account is refused."""
    cash: Annotated[float | None, BeforeValidator(_money)] = Field(default=100_000.0, validate_default=False)
    """Money of the sleeve at its beginning. 'all': all of the account's cash, deposits and dividends included."""
    bars: Place | None = None
    """Where bars come from. Default: the model's own source."""
    folder: Named | None = None
    """Where journal, bars and reports are kept. Default: a folder beside the account file, with its name."""

    shares: Literal["fractional", "whole"] = "fractional"
    """Whether parts of a share are traded: by market orders. Whole shares are traded by limit orders at the collar."""
    min_notional: Annotated[float, Field(ge=0)] = 1.0
    """A smaller order, in currency, is left out."""
    band: Share = 0.001
    """A change of an asset's weight below it is not traded."""
    window_minutes: PositiveInt = 60
    """Orders are sent only in the last minutes before the close, because the agent trades at the close."""
    order_minutes: PositiveInt = 10
    """Time that sells get, and then buys, before the rest of them is cancelled."""

    max_order: Share = 0.5
    """Largest order, as a share of the sleeve's value."""
    max_order_adv: Positive = 0.01
    """Largest order, as a share of the asset's average daily traded value. Not looked at where volumes are unknown."""
    max_position: Share = 0.6
    """Largest position after the plan, as a share of the sleeve's value."""
    max_turnover: Positive = 1.6
    """Largest sum of buys and sells in a session, as a share of the sleeve's value."""
    max_orders: NonNegativeInt = 200
    """Most orders in a session."""
    cash_floor: Share = 0.005
    """Share of the value that stays in cash, for prices that move between plan and fill."""
    price_collar: Share = 0.02
    """Largest move of a price between plan and order."""
    price_band: Share = 0.25
    """Largest difference between the broker's price and the last close. A larger one may be a split."""
    max_daily_loss: Share = 0.1
    """Largest loss since the session before, as a share of the value then."""
    max_drawdown: Share = 0.35
    """Largest loss from the highest value since the beginning, or since the last resumption."""
    cash_tolerance: Share = 0.01
    """Largest difference between the broker's cash and the journal's, as a share of the sleeve's value."""


def load_account(path: Path) -> AccountFile:
    """Read an account file.

    Raises:
        UserError: the file is missing or no YAML mapping, a key is unknown or a value is wrong.
    """
    if not path.is_file():
        raise UserError(f"There is no account file at {path}; write one as docs/trading.md shows, or name another one.")
    values = read_settings(path)
    for key in values:
        if key not in AccountFile.model_fields:
            near = difflib.get_close_matches(str(key), AccountFile.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else "docs/trading.md lists the known ones."
            raise UserError(f"{path}: unknown key '{key}'; {hint}")
    try:
        return AccountFile(**values)
    except ValidationError as error:
        raise UserError(explain(error, str(path))) from None


def folder_of(account: AccountFile, path: Path) -> Path:
    """Where everything of an account is kept.

    Raises:
        UserError: a folder cannot have the name of the file.
    """
    if account.folder is None and not path.suffix:
        raise UserError(f"{path} needs an ending, such as {path.name}.yaml, because its folder is named without it.")
    return account.folder or path.with_suffix("")
