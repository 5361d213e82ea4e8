"""Banks with a known truth that imitate what was measured: first-order prediction underestimates
removals and overestimates up-weighting, more with size and for targeted edits."""

from __future__ import annotations

import numpy as np

from workers.evidence.bank import REMOVAL, UP_WEIGHTING, edit_shape, plan_bank
from workers.evidence.bank_evidence import BankEvidence, random_edit_scale, summarise_retrains

EXAMPLES = 1000


class SimulatedBaseline:
    """A baseline whose every edit has a known fresh-seed mean effect."""

    def __init__(self, seed, behaviours=8, seed_noise=0.3):
        self.generator = np.random.default_rng(seed)
        self.behaviours = behaviours
        common = self.generator.standard_t(5, size=(EXAMPLES, 3))
        own = self.generator.standard_t(5, size=(EXAMPLES, behaviours))
        units = np.exp(2 * self.generator.normal(size=behaviours))
        mixing = self.generator.normal(size=(3, behaviours))
        self.scores = (common @ mixing + own) * units / EXAMPLES
        self.scale = random_edit_scale(self.scores)
        self.slope = 0.1 * self.generator.normal(size=behaviours)
        self.seed_noise = seed_noise * self.scale * np.sqrt(0.03)

    def plan(self, count, seed):
        return plan_bank(self.scores, count, seed=seed)

    def measure(self, plan):
        """Kinds, sizes, predictions, true effects and the deviation of truth from its best
        guess."""
        weights = np.ones((len(plan), EXAMPLES))
        for row, edit in enumerate(plan):
            weights[row, edit.train_indices] = edit.weights
        shapes = [edit_shape(edit.weights, EXAMPLES) for edit in plan]
        kinds = tuple(shape.kind for shape in shapes)
        sizes = np.array([shape.size for shape in shapes])
        predicted = (weights - 1) @ self.scores
        towards = np.select(
            [np.array(kinds) == REMOVAL, np.array(kinds) == UP_WEIGHTING], [2.0, -1.5], 1.0
        )
        targeting = np.abs(predicted) / (self.scale * np.sqrt(sizes)[:, None])
        factor = np.exp(towards[:, None] * np.sqrt(sizes)[:, None] * np.minimum(targeting / 15, 1))
        slope = factor + self.slope
        own = 0.05 * self.generator.normal(size=(len(plan), 1))
        deviation = np.sqrt(
            (0.2 * self.scale) ** 2 * sizes[:, None]
            + (0.1 * predicted) ** 2
            + (0.05 * predicted) ** 2
        )
        tails = self.generator.standard_t(5, size=predicted.shape) / np.sqrt(5 / 3)
        spread = np.sqrt((0.2 * self.scale) ** 2 * sizes[:, None] + (0.1 * predicted) ** 2)
        actual = (slope + own) * predicted + spread * tails
        return kinds, sizes, predicted, actual, deviation

    def retrain(self, actual, seeds=3):
        shape = (len(actual), seeds, self.behaviours)
        return actual[:, None, :] + self.seed_noise * self.generator.normal(size=shape)

    def evidence(self, count, seed=1, seeds=3):
        kinds, sizes, predicted, actual, _ = self.measure(self.plan(count, seed))
        return BankEvidence(
            behaviours=tuple(f"behaviour {k}" for k in range(self.behaviours)),
            behaviour_scales=self.scale,
            kinds=kinds,
            sizes=sizes,
            predicted=predicted,
            retrains=summarise_retrains(self.retrain(actual, seeds)),
            better=np.ones(self.behaviours),
        )
