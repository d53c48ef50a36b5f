"""
The errors of gridbot, named for the reaction they call for.

    GridBotError                    shown as its message, without a traceback
    ├── ConfigurationError          correct config.ini, start again (exit code 2)
    ├── ExchangeError
    │   ├── TemporaryFailure        may pass by itself: a question may be asked again
    │   ├── OrderRejected           certainly not on the exchange
    │   │   ├── InsufficientFunds   the exchange has less free than the order needs
    │   │   ├── TooManyOrders       the exchange allows no more open orders on the pair
    │   │   ├── OrderTooSmall       below the pair's smallest volume or cost
    │   │   ├── PostOnlyWouldCross  the price has moved: compute a new one
    │   │   └── PlacementPaused     nothing is wrong with the order: slow down, decide again later
    │   ├── OrderFateUnknown        perhaps on the exchange: ask, never send again
    │   ├── UnknownOrderError       the exchange has no such order
    │   └── AccessDenied            the key is wrong or may not do this (exit code 2)
    ├── BotStateError               a promise inside the bot is broken: stop, keep everything
    ├── DatabaseError               the database cannot be read or written
    └── MetricsServerError          the status server cannot start or stop; trading goes on
"""

import errno

_PASSES = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space: what this user may have on the disk is used up",
    errno.EROFS: "The disk is mounted read-only, as a card that fails often is: look at dmesg, mount it writable again",
    errno.EMFILE: "This program may open no more files: raise ulimit -n",
    errno.ENFILE: "This machine has too many files open: end other programs",
    errno.EIO: "The disk does not answer: look at dmesg, and copy what you have",
}


LONGEST_EXCERPT = 60


def excerpt(text: str) -> str:
    """A foreign text for an error message, cut to LONGEST_EXCERPT characters."""
    return text if len(text) <= LONGEST_EXCERPT else f"{text[:LONGEST_EXCERPT]}…"


class GridBotError(Exception):
    """Base of all errors whose message is meant for the owner of the bot."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(GridBotError):
    """The owner must correct the configuration, or something it names."""


def not_written(what: str, exc: OSError, advice: str) -> GridBotError:
    """The error for a file that cannot be written. A full disk is no settings mistake: ``advice`` is then left out."""
    text = f"{what} cannot be written ({exc.strerror}). "
    passes = _PASSES.get(exc.errno or 0)
    return GridBotError(text + passes) if passes else ConfigurationError(text + advice)


class ExchangeError(GridBotError):
    """Something went wrong between the bot and the exchange."""


class TemporaryFailure(ExchangeError):
    """
    The exchange could not answer a question now; asking again does no harm.

    retry_after  seconds the exchange wants us to wait, 0 when it did not say
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OrderRejected(ExchangeError):
    """The order is certainly not on the exchange, and nothing of it was executed."""


class InsufficientFunds(OrderRejected):
    """The free balance at the exchange does not cover the order."""


class TooManyOrders(OrderRejected):
    """The account has as many orders open on this pair as the exchange allows."""


class OrderTooSmall(OrderRejected):
    """The order is below the smallest volume or the smallest cost of the pair."""


class PostOnlyWouldCross(OrderRejected):
    """A post-only order would have been executed at once."""


class PlacementPaused(OrderRejected):
    """
    Nothing was placed and nothing is wrong with the order; the exchange, or our own rate
    limiter, wants fewer or later requests.

    retry_after  seconds in which nothing should be placed
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OrderFateUnknown(ExchangeError):
    """The order was sent and no readable answer came: it may exist. Never send it again."""


class UnknownOrderError(ExchangeError):
    """The exchange does not know the order that was asked for."""


class AccessDenied(ExchangeError):
    """The API key is wrong, or lacks a permission. Trying again can lock the key."""


class BotStateError(GridBotError):
    """The bot has reached a state it must not be in; it stops and leaves everything as it is."""


class DatabaseError(GridBotError):
    """The database cannot be opened, read or written."""


class MetricsServerError(GridBotError):
    """The status server could not be started or stopped."""
