"""Applications that write a checked pair at a fixed rate, each key at its owner, through the guards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psutil

from benchmarks.fixed_rate import GIVE_UP_MS, Sent, sending
from tests.data_checks.checked_pair import ACCOUNTS, CheckedPair

CLIENTS = 2

# Ids and positions that are odd are the target's. Three rows and five accounts of each side are hot: their entries are
# updated, and their remarks doubled and taken away, all the time. Sequences of both sides move.
SCRIPT = """
\\set action random(1, 100)
\\set id 2 * random(1, {rows} / 2 - 1) + {odd}
\\set hot 2 * random(1, 3) + {odd}
\\set position 2 * random(0, {accounts} - 1) + {odd}
\\set remarked 2 * random(0, 4) + {odd}
\\if :action <= 50
UPDATE b0000.entries SET counter = counter + 1, amount = amount + 0.01 WHERE id = :id;
\\elif :action <= 60
UPDATE b0000.entries SET counter = 1 - counter WHERE id = :hot;
\\elif :action <= 70
INSERT INTO b0000.entries (account, amount) SELECT account, 1 FROM b0000.accounts WHERE position = :position;
\\elif :action <= 80
INSERT INTO b0000.entries (id, account, amount)
SELECT -id, account, 1 FROM b0000.entries WHERE id = :id ON CONFLICT DO NOTHING;
\\elif :action <= 90
DELETE FROM b0000.entries WHERE id = -(:id::bigint);
\\elif :action <= 95
INSERT INTO b0000.remarks SELECT account, 'again' FROM b0000.accounts WHERE position = :remarked;
\\else
DELETE FROM b0000.remarks WHERE ctid = (SELECT r.ctid FROM b0000.remarks AS r JOIN b0000.accounts USING (account)
 WHERE position = :remarked AND remark = 'again' LIMIT 1);
\\endif
"""


@dataclass
class Written:
    """``acknowledged``: transactions of both applications, once they have ended."""

    sent: list[Sent] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return sum(one.ms < GIVE_UP_MS for sent in self.sent for one in sent.transactions)


@contextmanager
def writing(checked: CheckedPair, per_second: float) -> Iterator[Written]:
    """So many transactions a second, half at each side, until the block ends.

    Raises:
        ForeshardError: an application ended before.
    """
    cpus = psutil.Process().cpu_affinity()
    with ExitStack() as applications:
        written = Written()
        for odd, shard in enumerate((checked.pair.source, checked.pair.target)):
            script = SCRIPT.format(rows=checked.rows, odd=odd, accounts=ACCOUNTS)
            application = sending(shard.application_dsn, script, CLIENTS, per_second / 2, cpus)
            written.sent.append(applications.enter_context(application))
        yield written
