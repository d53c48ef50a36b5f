"""
The schema, as steps that are applied once each and recorded in the database. A released step is never changed,
because a database that has it does not apply it again; a change needs a new step.

STRICT tables refuse a value of the wrong type; prices, volumes, costs and fees are TEXT, times REAL
(unix seconds). WITHOUT ROWID and small pages keep what a fill writes to an SD card small: each
table is one tree, and each change touches one page of it.
"""

import sys

# sqlite-utils imports pandas and numpy if they are installed: half a second at every start and 45 MB for tables that
# a bot does not have. With None in sys.modules the import fails, and sqlite-utils works without them.
_UNUSED = [name for name in ("numpy", "pandas") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]
try:
    from sqlite_utils import Migrations
    from sqlite_utils.db import Database as Database
finally:
    for name in _UNUSED:
        del sys.modules[name]

migrations = Migrations("gridbot")


@migrations()
def m001_configuration(db: Database) -> None:
    """What the bot remembers beside its orders: one row for each userref."""
    db.execute("""CREATE TABLE configuration (
        userref INTEGER PRIMARY KEY, market TEXT NOT NULL, amount_per_grid TEXT NOT NULL, interval TEXT NOT NULL,
        highest_buy_price TEXT NOT NULL, vol_of_unfilled_remaining TEXT NOT NULL,
        vol_of_unfilled_remaining_max_price TEXT NOT NULL, created_at REAL NOT NULL, synced_at REAL NOT NULL
    ) STRICT""")


@migrations()
def m002_orders(db: Database) -> None:
    """The book, placements on their way, and filled buys without a sell."""
    db.execute("""CREATE TABLE orderbook (
        userref INTEGER NOT NULL, txid TEXT NOT NULL, side TEXT NOT NULL, price TEXT NOT NULL,
        volume TEXT NOT NULL, executed TEXT NOT NULL, placed_at REAL NOT NULL, sells TEXT NOT NULL,
        PRIMARY KEY (userref, txid)
    ) STRICT, WITHOUT ROWID""")
    db.execute("""CREATE TABLE pending_txids (
        id INTEGER PRIMARY KEY, userref INTEGER NOT NULL, side TEXT NOT NULL, price TEXT NOT NULL,
        volume TEXT NOT NULL, sells TEXT NOT NULL, why TEXT NOT NULL, written_at REAL NOT NULL,
        deadline REAL NOT NULL
    ) STRICT""")
    db.execute("""CREATE TABLE unsold_buy_order_txids (
        userref INTEGER NOT NULL, txid TEXT NOT NULL, price TEXT NOT NULL, volume TEXT NOT NULL,
        filled_at REAL NOT NULL, PRIMARY KEY (userref, txid)
    ) STRICT, WITHOUT ROWID""")


@migrations()
def m003_trades(db: Database) -> None:
    """Executions, and orders that are over."""
    db.execute("""CREATE TABLE trades (
        userref INTEGER NOT NULL, exec_id TEXT NOT NULL, txid TEXT NOT NULL, side TEXT NOT NULL,
        price TEXT NOT NULL, volume TEXT NOT NULL, cost TEXT NOT NULL, fee TEXT NOT NULL, time REAL NOT NULL,
        sells TEXT NOT NULL, PRIMARY KEY (userref, exec_id)
    ) STRICT, WITHOUT ROWID""")
    db.execute("CREATE INDEX trades_by_order ON trades (userref, txid)")
    # Orders that are over. The exchange's REST side may show them as open for a minute more, and
    # must not bring them back; pruned once nothing can mention them any longer.
    db.execute("""CREATE TABLE finished_orders (
        userref INTEGER NOT NULL, txid TEXT NOT NULL, status TEXT NOT NULL, finished_at REAL NOT NULL,
        PRIMARY KEY (userref, txid)
    ) STRICT, WITHOUT ROWID""")


@migrations()
def m010_audits(db: Database) -> None:
    """The last audit, and what the running bot last knew of its grid."""
    db.execute(
        "CREATE TABLE audits (userref INTEGER PRIMARY KEY, at REAL NOT NULL, trades INTEGER NOT NULL,"
        " difference TEXT NOT NULL) STRICT"
    )
    db.execute("CREATE TABLE snapshots (userref INTEGER PRIMARY KEY, at REAL NOT NULL, document TEXT NOT NULL) STRICT")


@migrations()
def m011_unknown_sells(db: Database) -> None:
    """Adopted sells that fit no buy are marked 'unknown'; an empty mark means: not compared with the buys yet."""
    db.execute("UPDATE orderbook SET sells = 'unknown' WHERE side = 'sell' AND sells = ''")


@migrations()
def m012_trades_by_sale(db: Database) -> None:
    """An index for the sells of a buy, which are read at the end of every cycle."""
    db.execute("CREATE INDEX trades_by_sale ON trades (userref, sells) WHERE side = 'sell'")


@migrations()
def m013_base_at_the_first_start(db: Database) -> None:
    """
    The base given to the bot at its first start: the settings may change later, past profits must not. NULL: the books
    are older than this column; '': the settings did not say it.
    """
    db.execute("ALTER TABLE configuration ADD COLUMN base_before TEXT")


@migrations()
def m014_forgotten_orders(db: Database) -> None:
    """What the bot must not sell any more, because the owner used the command ``forget``."""
    db.execute(
        "CREATE TABLE forgotten_orders (userref INTEGER NOT NULL, txid TEXT NOT NULL, at REAL NOT NULL,"
        " volume TEXT NOT NULL, PRIMARY KEY (userref, txid)) STRICT, WITHOUT ROWID"
    )


@migrations()
def m015_volume_of_forgotten_orders(db: Database) -> None:
    """An early form of m014 made the table without this column; it is added where it is missing."""
    if "volume" not in db["forgotten_orders"].columns_dict:
        db.execute("ALTER TABLE forgotten_orders ADD COLUMN volume TEXT NOT NULL DEFAULT '0'")


def not_ours(db: Database) -> str:
    """Why this version must not write to the file, worded to follow the file's name; "" if it may. Only reads."""
    try:
        applied = {step.name for step in migrations.applied(db)}
    except KeyError as exc:
        return f"does not say how it was made ({exc} is missing). Bring a copy back (restore FILE)"
    if not applied and any("sqlite" not in name for name in db.table_names()):
        return "is the database of another program"
    known = {step.name for step in migrations.pending(Database(memory=True))}
    unknown = sorted(applied - known)
    if unknown and unknown[0] < min(known):
        return (
            f"was written by a gridbot from before this one's first step ({unknown[0]}); use that version, or move the "
            "file aside: the next start adopts the open orders from the exchange"
        )
    return f"was written by a newer gridbot ({', '.join(unknown)}); use that version" if unknown else ""
