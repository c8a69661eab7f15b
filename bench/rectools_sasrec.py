"""RecTools' SASRec, for `bench.models`: `python bench/rectools_sasrec.py FOLDER LENGTH EPOCHS ROWS RANKS`.

It imports nothing of this project, because it runs in an environment of its own, with RecTools 0.19 and torch. FOLDER
holds `offsets.npy` and `item.npy`. The last event of a user is tested, the one before left out, as in leave-one-out.
RANKS receives the rank of each user's test item among all items that the user has not seen, at most 11.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

WIDTH, BLOCKS, HEADS, DROPOUT, K = 64, 2, 2, 0.2, 10


def events(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return all events, and how many of the same user follow each."""
    offsets, item = np.load(folder / "offsets.npy"), np.load(folder / "item.npy")
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    number = np.arange(len(item))
    frame = pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0})
    frame[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(number, unit="s")
    return frame, offsets[user + 1] - 1 - number


def main() -> None:
    """Train, write the ranks, and print the speed as JSON."""
    warnings.filterwarnings("ignore")  # Lightning's advice
    folder, length, epochs, rows = Path(sys.argv[1]), *(int(one) for one in sys.argv[2:5])
    torch.set_num_threads(2)
    torch.manual_seed(0)
    frame, after = events(folder)
    model = SASRecModel(
        n_factors=WIDTH, n_blocks=BLOCKS, n_heads=HEADS, session_max_len=length, dropout_rate=DROPOUT,
        loss="softmax", lr=1e-3, batch_size=rows, epochs=epochs, verbose=0,
    )  # fmt: skip
    train = frame[after >= 2]
    began, cpu = time.perf_counter(), time.process_time()
    model.fit(Dataset.construct(train))
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    positions = int((train.groupby(Columns.User).size() - 1).clip(upper=length).sum()) * epochs
    target = frame[after == 0].set_index(Columns.User)[Columns.Item]
    found = model.recommend(target.index.to_numpy(), Dataset.construct(frame[after >= 1]), K, filter_viewed=True)
    hits = found[found[Columns.Item].to_numpy() == target.loc[found[Columns.User]].to_numpy()]
    ranks = np.full(len(target), K + 1)
    ranks[target.index.get_indexer(hits[Columns.User])] = hits[Columns.Rank]
    np.save(sys.argv[5], ranks)
    sys.stdout.write(json.dumps({"positions": positions, "seconds": seconds, "cpu_seconds": used}) + "\n")


if __name__ == "__main__":
    main()
