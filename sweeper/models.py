"""Gaussian processes for score, log cost and success.

A model is what `GaussianProcess.as_gpytorch` builds: a zero-mean exact process on standardised targets,
Matern-5/2 with one lengthscale a parameter, plus (for cost and success) a linear kernel with one slope
variance a parameter: cost extrapolates beyond the dearest trial, a category that always fails does so
everywhere; a few trials tell which slopes there are. Scores are modelled as log(r + a) - log(1 + b - r), r
their height above the worst in units of their range, both offsets fitted with the lengthscales. a is small
where scores grow by factors (ten times the steps, ten times the score), so that what cheap trials show
carries over to dear ones; b is small where they saturate (500 of 500 steps), so that the luck of the middle
does not pass for promise at the top. Large, they leave scores as they are. Some trials are accidents (a seed
that collapsed, a machine that was busy): where all others contradict a score or a cost, it hardly counts.
Many of them drown in noise that is taken for large, so a fit that finds it is tried once more from next to
none, and the better explanation is kept. Collapses that come of the params (a learning rate beyond a cliff)
crowd together: success is a process over failures and collapses alike, which finds out where.
gpytorch takes some ten milliseconds of Python for one likelihood, so the same likelihood and its gradient are
written out here over torch float64 matrices; a test holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import ThreadpoolController

_JITTER = 1e-8
_LEVEL = 1.0  # variance of a linear kernel's constant, in standardised targets
# Of a warp: below, the worst or best scores stretch until luck among them rules; beyond, it is the identity.
_OFFSETS = 0.005, 100.0
_SHARED_NOISE = 0.7  # of the noise is one draw for all points of a trial's curve: they share a seed
_ACCIDENTS = 1.0, 20.0  # of so many trials, before any is seen: whose luck is as wide as all scores together
# Density of a score that is better than all others say, per accident and sd of all scores: beyond 2.7 of them
# it is more probable than an accident.
_DISCOVERY = 1e-2
_DOUBT = 0.05  # of the variance of success, at least, is luck: or one parameter explains each failure
_WEIGHINGS = 4  # at most, of the trials, each by all others as they weigh; more change little
_QUIET = 1e-3  # noise variance from which a fit is tried once more where it found ten times as much
_RETRIED = 4  # results between the fits that are tried from elsewhere too than where the last one ended
_WIDE = 0.25  # of its prior's centre is a lengthscale of success at least: else each collapse is an island


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()  # those of numpy and scipy; looking for them takes milliseconds


@contextmanager
def one_thread() -> Iterator[None]:
    """Small matrices are many times slower on many threads; the user's own settings come back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _thread_pools().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


class Priors:
    """Normal priors (mean, sd) on logs of [lengthscales..., outputscale, noise variance(, slope variances...)
    (, the warp's offsets a, b)].

    Targets are standardised, the box is 2 wide. The lengthscale's centre grows with sqrt(dim), as distances
    between random points do (Hvarfner et al. 2024, "Vanilla Bayesian optimization performs great in high
    dimensions").
    """

    def __init__(self, dim: int, linear: bool, noise_variance: float, warped: bool) -> None:
        rows = [(math.log(0.5 * math.sqrt(dim)), 1.0)] * dim
        # Of a linear process the rest is a correction, and few of its slopes matter (any may be large).
        rows += [(math.log(0.1), 1.5) if linear else (0.0, 1.0), (math.log(noise_variance), 1.5)]
        rows += [(math.log(0.1), 3.0)] * dim if linear else []
        rows += [(math.log(0.1), 1.0), (math.log(30.0), 1.5)] if warped else []
        self.mean, self.sd = np.array(rows).T
        self.low = np.full(len(rows), -8.0)
        self.high = np.full(len(rows), 6.0)
        self.low[dim + 1], self.high[dim + 1] = math.log(1e-7), math.log(4.0)
        if warped:
            self.low[-2:], self.high[-2:] = np.log(_OFFSETS)


class GaussianProcess:
    """One exact process. `features` [n, f], `targets` [n] (standardised inside), `groups` [f]: the parameter
    of each feature. `linear`: with a linear kernel. `warped`: of log(r + a) - log(1 + b - r), see above;
    predictions then are in these units, which `unwarp` leads back. `trials` [n]: which rows share a trial and
    so a part of their noise (None: all apart). `hyper` is the vector of `Priors`; at its prior mean until
    `fit`. `robust`: accidents hardly count; `failed` of the rows, the last, are none.
    """

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        groups: np.ndarray,
        *,
        linear: bool = False,
        warped: bool = False,
        robust: bool = False,
        failed: int = 0,
        noise_variance: float = 0.01,
        trials: np.ndarray | None = None,
    ) -> None:
        self.x = torch.as_tensor(features, dtype=torch.float64)  # [n, f]
        largest = max(float(np.abs(targets).max(initial=0.0)), 1e-300)  # first, so that no square overflows
        spread = float(np.std(targets / largest))
        self.scale = largest * (spread if spread > 1e-12 else 1.0)
        self.shift = float(np.mean(targets / largest)) * largest
        self.y = torch.as_tensor((targets - self.shift) / self.scale, dtype=torch.float64)  # [n]
        self.groups, self.linear, self.trials = torch.as_tensor(groups), linear, trials
        self.robust, self.failed = robust, failed
        self.warped, self.low = warped, float(targets.min())
        self.range = max(float(targets.max() - self.low), 1e-12 * largest)
        self.heights = torch.as_tensor((targets - self.low) / self.range, dtype=torch.float64)  # [n], 0..1
        self.dim = int(self.groups.max()) + 1
        self.priors = Priors(self.dim, linear, noise_variance, warped)
        self._even = torch.eye(len(self.y), dtype=torch.float64)  # [n, n]: the noise at equal weights
        if trials is not None:
            shared = torch.as_tensor(trials[:, None] == trials[None, :]).double()
            self._even = _SHARED_NOISE * shared + (1 - _SHARED_NOISE) * self._even
            owner, points = np.unique(trials, return_inverse=True, return_counts=True)[1:]
            by_trial = np.split(np.argsort(owner, kind="stable"), np.cumsum(points)[:-1])
            self._rows = [  # [trials, points] of those with as many points
                torch.as_tensor(np.stack([rows for rows in by_trial if len(rows) == count]))
                for count in np.unique(points)
            ]
        self.noise_shape = self._even  # [n, n], times the noise variance
        self.accident = torch.zeros(len(self.y), dtype=torch.float64)  # [n], how probable
        self._factor: tuple[torch.Tensor, torch.Tensor] | None = None
        self._log_slope = 0.0  # log of the product of the slopes of warp and standardising, by height
        self.evidence = -math.inf  # sum of the log densities of all rows, each by the trials of others
        self.hyper = self.priors.mean.copy()
        if warped:
            self._warp(self.hyper)

    def set_hyper(self, hyper: np.ndarray) -> None:
        """Takes the vector that `Priors` describes: warps the targets and weighs the trials by it."""
        self.hyper, self.noise_shape, self._factor = hyper, self._even, None
        if self.warped:
            self._warp(hyper)
        if self.robust:
            self._weigh()

    def _weigh(self) -> None:
        """The noise of each row: that of all, and more the likelier it was an accident, as far as the rest
        can tell: off what they say by more than their doubt and the noise explain, by less than the spread
        of all scores does. A mixture of two normals (Box and Tiao 1968); its share of accidents is learned
        on the way. What is better by more than that is a discovery and counts in full: where rewards are
        sparse, all others say that the first success is none.
        """
        noise, (prior, of) = math.exp(self.hyper[self.dim + 1]), _ACCIDENTS
        judged = torch.arange(len(self.y)) < len(self.y) - self.failed
        other = torch.where(judged, 0.0, -math.inf)  # than plain
        share, self.accident = prior / of, torch.zeros_like(self.y)
        for _ in range(_WEIGHINGS):
            before = self.accident
            off, doubt = self._left_out()
            # The variance of standardised targets is 1. A discovery may be of any size, but no cost is one.
            plain, wide = (
                -0.5 * (off**2 / v + torch.log(2 * math.pi * v)) for v in (doubt + noise, doubt + noise + 1)
            )
            found = torch.where((off > 0) & self.warped, math.log(share * _DISCOVERY), -math.inf)
            odd = torch.stack([wide + math.log(share), found]) + other
            kinds = torch.cat([plain[None] + math.log(1 - share), odd])
            self.accident = torch.softmax(kinds, 0)[1]
            self.evidence = float(torch.logsumexp(kinds, 0).sum()) + self._log_slope
            share = (prior + float(self.accident.sum())) / (of + float(judged.sum()))
            weight = 1 - self.accident / (1 + noise)  # its own, so that the rest of its curve keeps theirs
            self.noise_shape, self._factor = self._even + torch.diag(1 / weight - 1), None
            if float((self.accident - before).abs().max()) < 0.01:
                break

    def _warp(self, hyper: np.ndarray) -> None:
        low, high = np.exp(hyper[-2:])
        logs = torch.log((self.heights + low) / (1 + high - self.heights))
        self.shift, spread = float(logs.mean()), float(logs.std(unbiased=False))
        self.scale = spread if spread > 1e-9 else 1.0
        self.y = (logs - self.shift) / self.scale
        self._slopes = 1 / (self.heights + low) + 1 / (1 + high - self.heights)  # [n]
        self._log_slope = float(self._slopes.log().sum()) - len(self.y) * math.log(self.scale)

    def warp(self, targets: np.ndarray) -> np.ndarray:
        """Targets to the units of predictions; what lies beyond the worst or best counts as little beyond."""
        if not self.warped:
            return targets
        low, high = np.exp(self.hyper[-2:])
        heights = np.clip((targets - self.low) / self.range, -0.9 * low, 1 + 0.9 * high)
        return np.log((heights + low) / (1 + high - heights))

    def unwarp(self, values: np.ndarray) -> np.ndarray:
        """Predictions to targets: the inverse of the warp, between a below the worst and b above the best."""
        if not self.warped:
            return values
        low, high = np.exp(self.hyper[-2:])
        return self.low + self.range * ((1 + low + high) * expit(values) - low)

    # -- the likelihood ------------------------------------------------------------------------

    def loss(self, hyper: np.ndarray, prior: bool = True) -> tuple[float, np.ndarray]:
        """Negative log posterior (or, without the prior, likelihood) of `hyper`, and its gradient."""
        if self.warped:
            self._warp(hyper)
        noise = math.exp(hyper[self.dim + 1])
        z = self._scaled(self.x, hyper)
        r, variance = _distance(z, z), math.exp(hyper[self.dim])
        matern = _matern(r, variance)
        kernel = matern + self._line(self.x, self.x, hyper) if self.linear else matern
        factor = _cholesky(kernel + noise * self.noise_shape)
        alpha = torch.cholesky_solve(self.y[:, None], factor)[:, 0]
        value = 0.5 * float(self.y @ alpha) + float(factor.diagonal().log().sum())
        value += 0.5 * len(self.y) * math.log(2 * math.pi)
        # d loss / d t = -1/2 sum(w * dK/dt); by lengthscale dK/dlog l = slope * (z_a - z_b)^2, where slope is
        # minus the derivative of K by half the squared distance.
        w = torch.outer(alpha, alpha) - torch.cholesky_inverse(factor)
        m = w * (variance * torch.exp(-r) * (1 + r) * (5 / 3))
        by_feature = 2 * ((z * z * m.sum(1, keepdim=True)).sum(0) - (z * (m @ z)).sum(0))
        gradient = np.zeros(len(hyper))
        np.add.at(gradient, self.groups.numpy(), -0.5 * by_feature.numpy())
        gradient[self.dim] = -0.5 * float((w * matern).sum())
        gradient[self.dim + 1] = -0.5 * noise * float((w * self.noise_shape).sum())
        if self.linear:
            by_feature = (self.x * (w @ self.x)).sum(0).numpy() * np.exp(hyper[self.dim + 2 :])[self.groups]
            np.add.at(gradient, self.dim + 2 + self.groups.numpy(), -0.5 * by_feature)
        if self.warped:
            # The likelihood is that of the scores: the log slopes of warp and standardising belong to it.
            low, high = np.exp(hyper[-2:])
            up, down = self.heights + low, 1 + high - self.heights
            value -= self._log_slope
            # By log a, then by log b: what moves the warped scores, and what moves their slopes.
            for at, moved, bent in (-2, low / up, -low / up**2), (-1, -high / down, -high / down**2):
                shared = float((self.y * moved).mean()) / self.scale
                turned = (moved - moved.mean()) / self.scale - shared * self.y
                gradient[at] = (
                    float(alpha @ turned) - float((bent / self._slopes).sum()) + len(self.y) * shared
                )
        if prior:
            off = (hyper - self.priors.mean) / self.priors.sd
            value, gradient = value + 0.5 * float(off @ off), gradient + off / self.priors.sd
        return value, gradient

    def fit(self, starts: list[np.ndarray], steps: int, retry: bool = True) -> GaussianProcess:
        """Sets `hyper` to the best maximum a posteriori found by L-BFGS from each of `starts`.

        Of a robust process with its trials as they weigh by the start, if there is but one; else first with
        trials of equal weight, then, twice, as they weigh by what was found: accidents stand out from a fit.
        `retry`: where accidents may have drowned in noise, also from next to none; the better one is kept.
        """
        if not self.robust:
            self._search(starts, steps)
            return self
        if len(starts) == 1:
            self.set_hyper(starts[0])
            self._search(starts, steps)
        else:
            self.noise_shape = self._even
            for _ in range(3):
                self._search(starts, steps)
                starts = [self.hyper]
        loud, evidence = self.hyper, self.evidence
        if retry and loud[self.dim + 1] > math.log(10 * _QUIET):
            quiet = loud.copy()
            quiet[self.dim + 1] = math.log(_QUIET)
            self.set_hyper(quiet)
            self._search([quiet], steps)
            if self.evidence <= evidence:
                self.set_hyper(loud)
        return self

    def _search(self, starts: list[np.ndarray], steps: int) -> None:
        bounds = list(zip(self.priors.low, self.priors.high, strict=True))
        best, hyper = math.inf, self.hyper
        for start in starts:
            start = np.clip(start, self.priors.low, self.priors.high)
            options = {"maxiter": steps, "ftol": 1e-5}
            found = minimize(self.loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            if found.fun < best:
                best, hyper = float(found.fun), found.x
        self.set_hyper(hyper)

    # -- the posterior ---------------------------------------------------------------------------

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean [m] and standard deviation [m] of the noise-free function at `features` [m, f].

        In the units of the targets; of a warped process in those of its warp.
        """
        mean, sd = self._predict(torch.as_tensor(features, dtype=torch.float64))
        return self.shift + self.scale * mean.numpy(), self.scale * sd.numpy()

    def _predict(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        factor, alpha = self._factored()
        cross = self._kernel(x, self.x)
        solved = torch.linalg.solve_triangular(factor, cross.T, upper=False)
        prior = torch.full((len(x),), math.exp(self.hyper[self.dim]), dtype=torch.float64)
        if self.linear:
            prior += _LEVEL + (x * x) @ torch.as_tensor(np.exp(self.hyper[self.dim + 2 :]))[self.groups]
        variance = prior - (solved * solved).sum(0)
        return cross @ alpha, variance.clamp_min(1e-12).sqrt()

    def believe(
        self, features: np.ndarray, at_least: np.ndarray | None = None, hope: float = 0.0
    ) -> GaussianProcess:
        """The same process, having seen its means and `hope` sds more at `features` [m, f] too; or `at_least`
        [m] if higher."""
        if not len(features):
            return self
        more = torch.as_tensor(features, dtype=torch.float64)
        mean, sd = self._predict(more)
        believed = mean + hope * sd
        if at_least is not None:
            believed = torch.maximum(believed, torch.as_tensor((at_least - self.shift) / self.scale))
        new = copy(self)
        new.x, new.y = torch.cat([self.x, more]), torch.cat([self.y, believed])
        new.noise_shape = torch.block_diag(self.noise_shape, torch.eye(len(more), dtype=torch.float64))
        new._factor = None
        return new

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each row, by how much the prediction from all other trials misses it, and the sd of that, [n].

        Luck included, any trial's and not its own; in the units of predictions. Rows that share a trial are
        left out together (Rasmussen and Williams 2006, 5.4.2).
        """
        off, doubt = self._left_out()
        return self.scale * off.numpy(), np.hypot(self.scale * doubt.sqrt().numpy(), self.noise_sd)

    def _left_out(self) -> tuple[torch.Tensor, torch.Tensor]:
        """By how much the prediction misses [n], and the variance of that without the row's own noise [n]."""
        factor, alpha = self._factored()
        inverse = torch.cholesky_inverse(factor)
        if self.trials is None:
            variance = 1 / inverse.diagonal()
            off = alpha * variance
        else:
            off, variance = torch.empty_like(alpha), torch.empty_like(alpha)
            for rows in self._rows:
                block = torch.linalg.inv(inverse[rows[:, :, None], rows[:, None, :]])
                off[rows] = (block @ alpha[rows][:, :, None])[:, :, 0]
                variance[rows] = block.diagonal(dim1=1, dim2=2)
        own = math.exp(self.hyper[self.dim + 1]) * self.noise_shape.diagonal()
        return off, (variance - own).clamp_min(0)

    def collapsed(self) -> np.ndarray:
        """Of each row, how probable it is that it is an accident for the worse, [n]."""
        return self.accident.numpy() * (self.left_out()[0] < 0)

    def explained(self) -> float:
        """Share of the targets' variance that the rest predicts when each trial is left out, at most 1."""
        off = self.left_out()[0] / self.scale
        return 1 - float((off**2).mean()) / max(float((self.y**2).mean()), 1e-12)

    @property
    def noise_sd(self) -> float:
        """Of the luck of a trial that is no accident."""
        return self.scale * math.exp(0.5 * self.hyper[self.dim + 1])

    def as_gpytorch(self) -> Any:
        """This process as a gpytorch model: the definition, for reading, checking and joint samples."""
        import gpytorch

        process = self

        class Definition(gpytorch.models.ExactGP):
            def __init__(self) -> None:
                hyper = torch.as_tensor(process.hyper).exp()
                noise = hyper[process.dim + 1] * process.noise_shape.diagonal()
                likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(noise)
                super().__init__(process.x, process.y, likelihood)
                matern = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=process.x.shape[1])
                matern.lengthscale = hyper[process.groups]
                self.mean_module = gpytorch.means.ZeroMean()
                self.covar_module = gpytorch.kernels.ScaleKernel(matern)
                self.covar_module.outputscale = hyper[process.dim]
                if process.linear:
                    line = gpytorch.kernels.LinearKernel(ard_num_dims=process.x.shape[1])
                    line.variance = hyper[process.dim + 2 :][process.groups]
                    level = gpytorch.kernels.ConstantKernel()
                    level.constant = torch.as_tensor(_LEVEL)
                    self.covar_module = self.covar_module + line + level

            def forward(self, x: torch.Tensor) -> Any:
                return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

        return Definition().double()

    def _scaled(self, x: torch.Tensor, hyper: np.ndarray) -> torch.Tensor:
        return x * torch.as_tensor(np.exp(-hyper[: self.dim]))[self.groups]

    def _kernel(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        z1, z2 = self._scaled(x1, self.hyper), self._scaled(x2, self.hyper)
        kernel = _matern(_distance(z1, z2), math.exp(self.hyper[self.dim]))
        return kernel + self._line(x1, x2, self.hyper) if self.linear else kernel

    def _line(self, x1: torch.Tensor, x2: torch.Tensor, hyper: np.ndarray) -> torch.Tensor:
        """The linear kernel, [n1, n2], with a slope of its own variance for each parameter."""
        return _LEVEL + (x1 * torch.as_tensor(np.exp(hyper[self.dim + 2 :]))[self.groups]) @ x2.T

    def _factored(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._factor is None:
            noise = math.exp(self.hyper[self.dim + 1])
            factor = _cholesky(self._kernel(self.x, self.x) + noise * self.noise_shape)
            self._factor = factor, torch.cholesky_solve(self.y[:, None], factor)[:, 0]
        return self._factor


@dataclass(frozen=True)
class Observations:
    """What the models see: `features` [n, f], modelled `scores` [n] (higher is better), `log_costs` [n], the
    `trials` [n] they are of; of failures `failed` [k, f] and `failed_log_costs` [k], nan where unknown.
    `results`: how many trials there were in all, also those that are left out here."""

    features: np.ndarray
    scores: np.ndarray
    log_costs: np.ndarray
    trials: np.ndarray
    failed: np.ndarray
    failed_log_costs: np.ndarray
    results: int


@dataclass(frozen=True)
class Models:
    """Processes of score, log cost and, once something failed or collapsed, success; `explained` of score."""

    score: GaussianProcess
    log_cost: GaussianProcess
    success: GaussianProcess | None
    explained: float
    record: dict[str, Any]  # the fitted hyperparameters, JSON-able, from which the next fit starts

    def believe(self, features: np.ndarray, hope: float = 0.0) -> Models:
        """Trials at `features` without a result respected: their scores taken for the means and `hope` sds
        more. Not so their costs, for that would leave the means as they are and feign certainty, which the
        cap needs to be honest about."""
        return replace(self, score=self.score.believe(features, hope=hope))

    def success_probability(self, features: np.ndarray) -> np.ndarray:
        """[m], between 0.01 and 1."""
        if self.success is None:
            return np.ones(len(features))
        return np.clip(self.success.predict(features)[0], 0.01, 1.0)


def fit_models(
    seen: Observations, groups: np.ndarray, before: dict[str, Any], generator: np.random.Generator
) -> Models:
    """Models of `seen`, from the hyperparameters in `before` (a `record`, or empty).

    They are fitted anew when results came since, ever more rarely beyond two hundred rows; below thirty from
    several starts, since wrong early lengthscales cost many trials.
    """
    count, failures = len(seen.scores), len(seen.failed)
    # One disaster must not flatten all the others; a failure scores as the lower quartile does.
    quartile = float(np.quantile(seen.scores, 0.25))
    scores = np.maximum(seen.scores, quartile - 5 * (seen.scores.max() - quartile))
    scores = np.append(scores, np.full(failures, quartile))
    final = np.append(np.diff(seen.trials) != 0, True)
    curves = not final.all()
    owners = np.append(seen.trials, -1 - np.arange(failures))
    score = GaussianProcess(
        np.concatenate([seen.features, seen.failed]), scores, groups, warped=True, robust=True,
        failed=failures, trials=owners if curves else None,
    )  # fmt: skip
    log_cost = GaussianProcess(
        seen.features, seen.log_costs, groups, linear=True, robust=True, noise_variance=1e-3,
        trials=seen.trials if curves else None,
    )  # fmt: skip
    last = before.get("seen", -math.inf)
    due = seen.results - last >= max(1, (count + failures) ** 2 // 25_000)
    retry = not before or seen.results // _RETRIED > last // _RETRIED

    def fit(name: str, process: GaussianProcess) -> GaussianProcess:
        known = [np.array(before[name])] if len(before.get(name, ())) == len(process.hyper) else []
        if known and not due:
            process.set_hyper(known[0])
            return process
        if count < 30 or not known:
            mean, sd = process.priors.mean, process.priors.sd
            known += [mean, mean + 0.7 * sd * generator.standard_normal(len(mean))]
        elif name == "success" and retry:
            known.append(process.priors.mean)  # labels are so few that a fit keeps to the islands it once saw
        return process.fit(known, 40 if count < 60 else 15, retry)

    processes = {"score": fit("score", score), "cost": fit("cost", log_cost)}
    # Yes or no: as probabilities, doubts about low scores would pass for failures while there are few trials.
    collapsed = score.collapsed()[:count][final] > 0.5
    if failures or collapsed.any():
        labels = np.append(1.0 - collapsed, np.zeros(failures))
        features = np.concatenate([seen.features[final], seen.failed])
        success = GaussianProcess(features, labels, groups, linear=True, noise_variance=0.05)
        priors, dim = success.priors, success.dim
        priors.low[:dim], priors.low[dim + 1] = priors.mean[:dim] + math.log(_WIDE), math.log(_DOUBT)
        processes["success"] = fit("success", success)
    record: dict[str, Any] = {name: process.hyper.tolist() for name, process in processes.items()}
    record["seen"] = seen.results if due else before["seen"]
    # What a failure cost is the least that params there cost.
    known_costs = np.isfinite(seen.failed_log_costs)
    log_cost = log_cost.believe(seen.failed[known_costs], at_least=seen.failed_log_costs[known_costs])
    return Models(score, log_cost, processes.get("success"), score.explained(), record)


def _distance(z1: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
    """sqrt(5) times the distance between scaled features, [n1, n2]."""
    squared = (z1 * z1).sum(1)[:, None] + (z2 * z2).sum(1)[None, :] - 2 * z1 @ z2.T
    return squared.clamp_min_(1e-30).sqrt_().mul_(math.sqrt(5))


def _matern(r: torch.Tensor, variance: float) -> torch.Tensor:
    """Matern-5/2 of such distances, in place where it can be: this is where proposals spend their time."""
    return torch.exp(-r).mul_(variance).mul_((r * r).div_(3).add_(r + 1))


def _cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """Lower factor; adds the least power-of-ten jitter that makes rounding errors harmless."""
    jitter = _JITTER
    while jitter < 1.0:
        matrix = matrix + jitter * torch.eye(len(matrix), dtype=matrix.dtype)
        factor, info = torch.linalg.cholesky_ex(matrix)
        if not int(info):
            return factor
        jitter *= 10
    raise ArithmeticError("a covariance matrix is not positive definite")
