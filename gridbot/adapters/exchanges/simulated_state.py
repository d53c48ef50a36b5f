"""What a simulated exchange remembers, apart from its executions. Slotted records, because they change all the time."""

from dataclasses import dataclass
from decimal import Decimal

from gridbot.models.money import ZERO

OPEN = "open"
CLOSED = "closed"
CANCELED = "canceled"


@dataclass(slots=True)
class SimulatedOrder:
    """One order. ``held``: what it still binds, in quote for a buy, in base for a sell."""

    txid: str
    number: int  # 1, 2, 3, ... in the order of placement
    side: str
    price: Decimal
    volume: Decimal
    userref: int
    opened_at: float
    fee_rate: Decimal  # the fee, as a fraction, that was agreed when it was placed
    held: Decimal
    status: str = OPEN
    executed: Decimal = ZERO
    cost: Decimal = ZERO
    fee: Decimal = ZERO
    closed_at: float = 0.0
    reason: str = ""
    trades: tuple[str, ...] = ()


@dataclass(slots=True)
class Money:
    """
    The account: what it started with, what was traded, what is there now. ``base`` and ``quote`` are totals, of which
    open orders bind ``base_held`` and ``quote_held``. The two counters number the ids.
    """

    start_base: Decimal
    start_quote: Decimal
    base: Decimal
    quote: Decimal
    base_held: Decimal = ZERO
    quote_held: Decimal = ZERO
    bought: Decimal = ZERO  # base that came in by buys
    sold: Decimal = ZERO  # base that went out by sells
    paid: Decimal = ZERO  # quote spent on buys, without fees
    received: Decimal = ZERO  # quote that sells brought, before fees
    fees: Decimal = ZERO  # quote
    orders_taken: int = 0
    trades_made: int = 0

    @classmethod
    def starting(cls, base: Decimal, quote: Decimal) -> "Money":
        """An account with these balances that has never traded."""
        return cls(start_base=base, start_quote=quote, base=base, quote=quote)


@dataclass(frozen=True)
class MarketPosition:
    """Where the demo's made-up market stands: after ``tick`` prices of ``seed``, at ``level`` (quote)."""

    seed: int
    tick: int
    level: float  # not money: what the next price is made from
