"""A plain PyTorch SASRec, the anchor of `bench.models`: `python bench/torch_sasrec.py FOLDER STEPS`.

As such programs are usually written: one user per row, the last 200 events padded on the left, `nn.MultiheadAttention`
with a causal mask, and `cross_entropy` over the logits of all positions. It imports nothing of this project, because it
runs in an environment of its own, with torch and NumPy. FOLDER holds `offsets.npy` and `item.npy`; the last two events
of a user are left out.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WIDTH, BLOCKS, HEADS, LENGTH, DROPOUT, ROWS, WARM_UP = 64, 2, 2, 200, 0.2, 128, 3


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.forward_part = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(4 * WIDTH, WIDTH),
            nn.Dropout(DROPOUT),
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (batch, length, width)."""
        y = self.norm(x)
        x = x + self.attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.forward_part(self.norm_2(x))


class SASRec(nn.Module):
    """Item and position vectors, blocks, and the item vectors again as output."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, WIDTH, padding_idx=0)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.drop = nn.Dropout(DROPOUT)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(self.items.weight, std=0.02)

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        """Return the logits of all items, (batch, length, items + 1)."""
        mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        x = self.drop(self.items(item) * WIDTH**0.5 + self.positions.weight)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x) @ self.items.weight.T


def batches(folder: Path, steps: int) -> list[np.ndarray]:
    """Return inputs and targets of random users as one array per step, (rows, length + 1)."""
    offsets, items = np.load(folder / "offsets.npy"), np.load(folder / "item.npy")
    random, found = np.random.default_rng(0), []
    for _ in range(steps):
        rows = np.zeros((ROWS, LENGTH + 1), np.int64)
        for row, user in enumerate(random.integers(0, len(offsets) - 1, ROWS)):
            past = items[offsets[user] : offsets[user + 1] - 2][-LENGTH - 1 :]
            rows[row, LENGTH + 1 - len(past) :] = past
        found.append(rows)
    return found


def main() -> None:
    """Train for some steps and print the speed as JSON."""
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = SASRec(int(np.load(folder / "item.npy").max()))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    positions, began, cpu = 0, 0.0, 0.0
    for number, rows in enumerate(batches(folder, steps + WARM_UP)):
        if number == WARM_UP:
            began, cpu = time.perf_counter(), time.process_time()
        data = torch.from_numpy(rows)
        logits = model(data[:, :-1])
        target = torch.where(data[:, :-1] > 0, data[:, 1:], 0)
        loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        positions += int((target > 0).sum()) if number >= WARM_UP else 0
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    sys.stdout.write(
        json.dumps({"positions": positions, "seconds": seconds, "cpu_seconds": used, "loss": loss.item()}) + "\n"
    )


if __name__ == "__main__":
    main()
