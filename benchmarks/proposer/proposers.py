"""The proposers under one roof: `ask()` gives params, `tell(...)` what became of them.

Each is set up as a knowing user of its package would: log cost as the second objective, logarithmic ranges
declared as such, win rates as log odds. None of them learns from failures by itself: Optuna forgets them and
goes there again, and a bad score at the little that a crash costs stands at the front's cheap end. So each is
told the worst score at the dearest cost so far. Peers' packages are imported only when one is asked for.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks.proposer.tasks import Task
from sweeper import pareto

Params = dict[str, Any]
STARTUP = 10  # random trials of the peers that have no default of their own
EXTRA = "peers"
WIDE = 10_000  # whole numbers in a range beyond which Optuna is told a float: its sampler lists them all
CLIP = 1e-4  # win rates nearer to 0 or 1 than this have no finite log odds


class MissingPeer(Exception):
    """A peer's package is not installed."""

    def __init__(self, name: str, error: ImportError) -> None:
        super().__init__(
            f"{name} needs a package that is not here ({error}): install the extra '{EXTRA}' "
            "(see benchmarks/proposer/README.md)"
        )


class Proposer(Protocol):
    """What the runner drives. `tell` may speak of other params than were asked for (a pool's nearest)."""

    def ask(self) -> Params: ...

    def tell(
        self,
        params: Params,
        score: float | None,
        cost: float,
        failure: str | None,
        points: Sequence[tuple[float, float, float]],
    ) -> None: ...


def upward(task: Task, score: float) -> float:
    """A score as a knowing user would hand it to a model: higher is better, win rates as log odds."""
    if task.scale == "percentile":
        score = min(max(score, CLIP), 1 - CLIP)
        score = math.log(score / (1 - score))
    return score if task.goal == "maximize" else -score


def failed_as(task: Task, scores: np.ndarray, log_costs: np.ndarray) -> tuple[float, float]:
    """Score and log cost that a failure is told as: the worst of those given, which finished trials had."""
    if not len(scores):
        return upward(task, task.floor), math.log(task.cost_max)
    return float(scores.min()), float(log_costs.max())


class Ours:
    """Sweeper, by ask and tell; with `curves` it is told the learning curves."""

    curves = False

    def __init__(self, task: Task, seed: int) -> None:
        from sweeper.proposer import Sweeper

        self.sweeper = Sweeper(
            task.parameters,
            goal=task.goal,
            seed=seed,
            constraints=task.constraints,
            fixed=task.fixed,
            scale=task.scale,
            fidelity=task.fidelity,
        )
        self.trial: Any = None

    def ask(self, among: Sequence[Mapping[str, Any]] | None = None) -> Params:
        self.trial = self.sweeper.ask(among=among)
        return dict(self.trial.params)

    def tell(
        self,
        params: Params,
        score: float | None,
        cost: float,
        failure: str | None,
        points: Sequence[tuple[float, float, float]],
    ) -> None:
        from sweeper.proposer import Point

        if failure is not None:
            self.sweeper.tell(self.trial, failure=failure, cost=cost)
        elif self.curves:
            self.sweeper.tell(self.trial, points=[Point(*point) for point in points])
        else:
            self.sweeper.tell(self.trial, score=score, cost=cost)


class OursCurves(Ours):
    curves = True


class _Units:
    """What proposers in unit coordinates share: the history in arrays."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.space = task, task.space
        self.generator = np.random.default_rng([seed, 77])
        self.seed = seed
        self.units: list[np.ndarray] = []
        self.scores: list[float] = []  # higher is better; nan where failed
        self.log_costs: list[float] = []

    def tell(
        self,
        params: Params,
        score: float | None,
        cost: float,
        failure: str | None,
        points: Sequence[tuple[float, float, float]],
    ) -> None:
        self.units.append(self.space.to_unit(params))
        self.scores.append(math.nan if score is None else upward(self.task, score))
        self.log_costs.append(math.log(cost))

    def random(self) -> Params:
        return self.space.to_params(self.space.sample(1, self.generator)[0])

    def told(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and log costs of all trials, [n], failures as `failed_as` says."""
        scores, log_costs = np.array(self.scores), np.array(self.log_costs)
        failed = ~np.isfinite(scores)
        scores[failed], log_costs[failed] = failed_as(self.task, scores[~failed], log_costs[~failed])
        return scores, log_costs


class Random(_Units):
    """Uniform over the space."""

    def ask(self) -> Params:
        return self.random()


class Genetic(_Units):
    """The ancestor's: a random member of the observed front, all coordinates jittered, clipped at walls."""

    jitter = 0.5  # half of the half-width of the box

    def ask(self) -> Params:
        good = np.flatnonzero(np.isfinite(self.scores))
        if not len(good):
            return self.space.start() if not self.units else self.random()
        members = good[pareto.front(np.array(self.log_costs)[good], np.array(self.scores)[good])]
        for _ in range(100):
            centre = self.units[self.generator.choice(members)]
            unit = self.space.snap(
                (centre + self.jitter * self.generator.uniform(-1, 1, self.space.dim))[None]
            )
            if self.space.feasible(unit)[0]:
                return self.space.to_params(unit[0])
        return self.random()


class Protein(_Units):
    """Protein's rule as its author explained it, re-stated: lift over the left neighbour times distance.

    Two exact Gaussian processes (linear plus Matern) on scores and log costs scaled to 0..1, 50 Adam steps
    from the last fit, means only; candidates jittered around the observed front. Right of the dearest
    member the distance is at most the mean spacing of the front.
    """

    starts, candidates, jitter, steps = 5, 2000, 0.3, 50

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, seed)
        self.fitted: list[Any] = [None, None]

    def ask(self) -> Params:
        if not self.units:
            return self.space.start()
        good = np.isfinite(self.scores)
        if len(self.units) < self.starts or good.sum() < 2:
            return self.random()
        scores, log_costs = map(_unit_range, self.told())
        features = self.space.features(np.stack(self.units))
        members = np.flatnonzero(good)[pareto.front(log_costs[good], scores[good])]
        centres = np.stack(self.units)[self.generator.choice(members, self.candidates)]
        units = centres + self.jitter * self.generator.standard_normal(centres.shape)
        units = self.space.snap(units)
        units = units[self.space.feasible(units)]
        if not len(units):
            return self.random()
        wanted = self.space.features(units)
        score, self.fitted[0] = _mean(features, scores, wanted, self.fitted[0], self.steps)
        cost, self.fitted[1] = _mean(features, log_costs, wanted, self.fitted[1], self.steps)
        front_costs, front_scores = log_costs[members], scores[members]
        left = np.searchsorted(front_costs, cost, side="right") - 1
        lift = score - np.where(left >= 0, front_scores[left], 0.0)
        spacing = np.diff(front_costs).mean() if len(members) > 1 else 0.1
        distance = np.abs(cost[:, None] - front_costs[None, :]).min(axis=1)
        distance = np.where(left == len(members) - 1, np.minimum(distance, spacing), distance)
        rating = np.maximum(lift, 0) * distance
        best = rating.argmax() if rating.max() > 0 else lift.argmax()
        return self.space.to_params(units[int(best)])


def _unit_range(values: np.ndarray) -> np.ndarray:
    """To 0..1."""
    return (values - values.min()) / max(float(np.ptp(values)), 1e-9)


def _mean(x: np.ndarray, y: np.ndarray, at: np.ndarray, fitted: Any, steps: int) -> tuple[np.ndarray, Any]:
    """The posterior mean at `at` of an exact Gaussian process on (x, y), and its fitted hyperparameters."""
    import torch

    inputs, targets, wanted = (torch.as_tensor(array, dtype=torch.float64) for array in (x, y, at))
    if fitted is None:  # logs: lengthscales, Matern's and the linear part's scale, bias, noise
        fitted = torch.tensor([*[0.0] * x.shape[1], -1.0, -2.0, -1.0, -4.0], dtype=torch.float64)
    raw = fitted.clone().requires_grad_(True)

    def kernel(a: Any, b: Any) -> Any:
        scales = raw[: x.shape[1]].exp()
        difference = (a / scales)[:, None, :] - (b / scales)[None, :, :]
        distance = (difference.square().sum(-1) + 1e-12).sqrt() * math.sqrt(3)
        matern = raw[-4].exp() * (1 + distance) * torch.exp(-distance)
        return matern + raw[-3].exp() * (a @ b.T) + raw[-2].exp()

    def factor() -> Any:
        noise = raw[-1].exp() + 1e-6
        return torch.linalg.cholesky(kernel(inputs, inputs) + noise * torch.eye(len(x), dtype=torch.float64))

    optimiser = torch.optim.Adam([raw], lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        lower = factor()
        solved = torch.linalg.solve_triangular(lower, targets[:, None], upper=False)
        loss = (0.5 * solved.square().sum() + lower.diagonal().log().sum()) / len(x)
        loss = loss + 0.005 * raw.square().sum() / len(x)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            raw.clamp_(-9.0, 5.0)
    with torch.no_grad():
        weights = torch.cholesky_solve(targets[:, None], factor())
        return (kernel(wanted, inputs) @ weights)[:, 0].numpy(), raw.detach()


class _Optuna(ABC):
    """Optuna with two objectives: score and log cost."""

    def __init__(self, task: Task, seed: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingPeer("Optuna", error) from error
        self.optuna, self.task = optuna, task
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.space = task.space
        self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=self.sampler(seed))
        self.trial: Any = None
        self.asked: Params = {}
        self.done: list[tuple[float, float]] = []  # score, log cost

    @abstractmethod
    def sampler(self, seed: int) -> Any:
        """Optuna's sampler that chooses."""

    def distributions(self) -> dict[str, Any]:
        """Optuna's own kinds where it has them; log odds and exponents where it has none."""
        kinds, made = self.optuna.distributions, {}
        for name, p in self.space.parameters.items():
            if p.kind == "categorical":
                made[name] = kinds.CategoricalDistribution(list(p.values))
            elif p.distribution == "pow2":
                made[name] = kinds.IntDistribution(round(math.log2(p.min)), round(math.log2(p.max)))
            elif p.distribution == "logit":
                made[name] = kinds.FloatDistribution(_logit(p.min), _logit(p.max))
            elif p.kind == "int" and p.max - p.min < WIDE:
                made[name] = kinds.IntDistribution(int(p.min), int(p.max), log=p.distribution == "log")
            else:
                made[name] = kinds.FloatDistribution(p.min, p.max, log=p.distribution == "log")
        return made

    def suggest(self, name: str, kind: Any) -> Any:
        if hasattr(kind, "choices"):
            return self.trial.suggest_categorical(name, kind.choices)
        whole = isinstance(kind, self.optuna.distributions.IntDistribution)
        suggested = self.trial.suggest_int if whole else self.trial.suggest_float
        return suggested(name, kind.low, kind.high, log=kind.log)

    def to_own(self, name: str, value: Any) -> Any:
        distribution = self.space.parameters[name].distribution
        if distribution == "pow2":
            return round(math.log2(value))
        return _logit(value) if distribution == "logit" else value

    def from_own(self, name: str, value: Any) -> Any:
        p = self.space.parameters[name]
        if p.kind != "categorical" and p.distribution == "pow2":
            return 2**value
        if p.kind != "categorical" and p.distribution == "logit":
            return min(max(1 / (1 + math.exp(-value)), p.min), p.max)
        return round(value) if p.kind == "int" else value

    def ask(self) -> Params:
        self.trial = self.study.ask()
        kinds, params = self.distributions(), Params()
        waiting = list(self.space.parameters)
        while waiting:  # parents before children: what is inactive is never suggested
            for name in list(waiting):
                needed = self.space.parameters[name].when or {}
                if any(parent in waiting for parent in needed):
                    continue
                waiting.remove(name)
                if all(parent in params and params[parent] in values for parent, values in needed.items()):
                    params[name] = self.from_own(name, self.suggest(name, kinds[name]))
        self.asked = dict(params)
        return params

    def tell(
        self,
        params: Params,
        score: float | None,
        cost: float,
        failure: str | None,
        points: Sequence[tuple[float, float, float]],
    ) -> None:
        if score is not None:
            self.done.append((upward(self.task, score), math.log(cost)))
            values = self.done[-1]
        else:
            scores, log_costs = np.array(self.done).reshape(-1, 2).T
            values = failed_as(self.task, scores, log_costs)
        if params == self.asked:
            self.study.tell(self.trial, values)
            return
        self.study.tell(self.trial, state=self.optuna.trial.TrialState.FAIL)  # a neighbour ran in its place
        kinds = self.distributions()
        own = {name: self.to_own(name, value) for name, value in params.items()}
        made = self.optuna.trial.create_trial(
            params=own, distributions={name: kinds[name] for name in own}, values=values
        )
        self.study.add_trial(made)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


class Tpe(_Optuna):
    """Multivariate tree-structured Parzen estimators; conditionals in groups."""

    def sampler(self, seed: int) -> Any:
        return self.optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)


class GpSampler(_Optuna):
    """Optuna's Gaussian processes with the log of the expected hypervolume improvement."""

    def sampler(self, seed: int) -> Any:
        return self.optuna.samplers.GPSampler(seed=seed)


class Botorch(_Units):
    """qLogNEHVI on score and -log cost; categories one-hot, relaxed while optimising and rounded after.

    Its reference point is told: the task's floor and its dearest cost. One inferred from the front seen so
    far lies below the floor, and then ever cheaper trials that reach nothing are worth something.
    """

    restarts, raw, samples = 4, 128, 64

    def __init__(self, task: Task, seed: int) -> None:
        try:
            import botorch
        except ImportError as error:
            raise MissingPeer("BoTorch", error) from error
        super().__init__(task, seed)
        self.botorch = botorch
        warnings.simplefilter("ignore")

    def ask(self) -> Params:
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.optim import optimize_acqf
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import SumMarginalLogLikelihood

        number, space = len(self.units), self.space
        if number < STARTUP or np.isfinite(self.scores).sum() < 2:
            sobol = torch.quasirandom.SobolEngine(space.dim, scramble=True, seed=self.seed)
            units = space.snap(2 * sobol.draw(256, dtype=torch.float64).numpy()[number % 128 :] - 1)
            units = units[space.feasible(units)]
            return space.to_params(units[0]) if len(units) else self.random()
        torch.manual_seed(self.seed * 1000 + number)
        zero_one = [p.kind == "categorical" for p in space.parameters.values()]
        hot = np.array([zero_one[column] for column in space.groups])
        features = space.features(np.stack(self.units))
        inputs = torch.as_tensor(np.where(hot, features, (features + 1) / 2))
        scores, log_costs = self.told()
        outputs = torch.as_tensor(np.stack([scores, -log_costs], axis=1))
        models = [
            SingleTaskGP(inputs, outputs[:, i : i + 1], outcome_transform=Standardize(1)) for i in (0, 1)
        ]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=[upward(self.task, self.task.floor), -math.log(self.task.cost_max)],
            X_baseline=inputs,
            prune_baseline=True,
            sampler=SobolQMCNormalSampler(torch.Size([self.samples]), seed=number),
        )
        box = torch.stack([torch.zeros(inputs.shape[1]), torch.ones(inputs.shape[1])]).double()
        found, _ = optimize_acqf(
            acquisition, box, q=1, num_restarts=self.restarts, raw_samples=self.raw, options={"maxiter": 100}
        )
        best = found[0].numpy()
        unit = np.zeros(space.dim)
        for column, p in enumerate(space.parameters.values()):
            mine = best[space.groups == column]
            if p.kind == "categorical":
                unit[column] = p.to_unit(p.values[int(mine.argmax())])
            else:
                unit[column] = 2 * mine[0] - 1
        unit = space.snap(unit[None])[0]
        if not space.feasible(unit[None])[0]:  # the nearest that is allowed
            options = space.sample(512, self.generator)
            unit = options[np.abs(options - unit).sum(axis=1).argmin()]
        return space.to_params(unit)


class Hebo(_Units):
    """HEBO's multi-objective optimiser on -score and log cost."""

    def __init__(self, task: Task, seed: int) -> None:
        try:
            from hebo.design_space.design_space import DesignSpace
            from hebo.optimizers.general import GeneralBO
        except ImportError as error:
            raise MissingPeer("HEBO", error) from error
        import torch

        super().__init__(task, seed)
        warnings.simplefilter("ignore")
        np.random.seed(seed)  # noqa: NPY002  # the package draws from it
        torch.manual_seed(seed)
        declared: list[dict[str, Any]] = []
        for name, p in self.space.parameters.items():
            if p.kind == "categorical":
                declared.append({"name": name, "type": "cat", "categories": [str(v) for v in p.values]})
            else:
                declared.append({"name": name, "type": "num", "lb": -1.0, "ub": 1.0})
        self.optimiser = GeneralBO(DesignSpace().parse(declared), num_obj=2, rand_sample=STARTUP)
        self.frame: Any = None

    def ask(self) -> Params:
        self.frame = self.optimiser.suggest(1)
        unit = np.zeros(self.space.dim)
        for column, (name, p) in enumerate(self.space.parameters.items()):
            value = self.frame[name].iloc[0]
            if p.kind == "categorical":
                value = p.to_unit(next(v for v in p.values if str(v) == value))
            unit[column] = float(value)
        unit = self.space.snap(unit[None])[0]
        if not self.space.feasible(unit[None])[0]:
            options = self.space.sample(512, self.generator)
            unit = options[np.abs(options - unit).sum(axis=1).argmin()]
        return self.space.to_params(unit)

    def tell(
        self,
        params: Params,
        score: float | None,
        cost: float,
        failure: str | None,
        points: Sequence[tuple[float, float, float]],
    ) -> None:
        super().tell(params, score, cost, failure, points)
        frame = self.frame.copy()
        for column, (name, p) in enumerate(self.space.parameters.items()):
            if name in params:
                frame[name] = str(params[name]) if p.kind == "categorical" else self.units[-1][column]
        scores, log_costs = self.told()
        self.optimiser.observe(frame, np.array([[-scores[-1], log_costs[-1]]]))


PROPOSERS: dict[str, Callable[[Task, int], Any]] = {
    "ours": Ours,
    "ours-curves": OursCurves,
    "random": Random,
    "genetic": Genetic,
    "protein": Protein,
    "tpe": Tpe,
    "gpsampler": GpSampler,
    "botorch": Botorch,
    "hebo": Hebo,
    # The same sweeps; where curves are honest each of their points counts as a result, see `run`.
    "random-curves": Random,
    "genetic-curves": Genetic,
    "tpe-curves": Tpe,
}
CURVES = "-curves"  # ends the names of those whose curves count
PEERS = [name for name in PROPOSERS if name.removesuffix(CURVES) not in ("ours", "random")]
