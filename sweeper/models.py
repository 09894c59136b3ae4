"""Gaussian processes for score, log cost and success.

A model is what `GaussianProcess.as_gpytorch` builds: an exact process on standardised targets of an unknown
level: Matern-5/2 with one lengthscale a parameter, plus a constant, so that what nobody has tried is not
taken for as good as the mean of all trials, most of which lie where it is good. For cost and success a linear
kernel with one slope variance a parameter comes on top: cost extrapolates beyond the dearest trial, a
category that always fails does so everywhere; a few trials tell which slopes there are. Scores are modelled
as log(r + a) - log(1 + b - r), r their height above the worst in units of their range, both offsets fitted
with the lengthscales. a is small where scores grow by factors (ten times the steps, ten times the score), so
that what cheap trials show carries over to dear ones; b is small where they saturate (500 of 500 steps), so
that the luck of the middle does not pass for promise at the top. Large, they leave scores as they are. Some
trials are accidents (a seed that collapsed, a machine that was busy): where all others contradict a score or
a cost, it hardly counts. Many of them drown in noise that is taken for large, and there are other
explanations that a fit may be caught in: every few results it is tried from next to no noise and from draws
of the prior too, and what explains the trials best, each by the others, is kept. Collapses that come of the
params (a learning rate beyond a cliff) crowd together: success is a process over failures and collapses
alike, which finds out where.
gpytorch takes some ten milliseconds of Python for one likelihood, so the same likelihood and its gradient are
written out here over numpy's float64 matrices; a test holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from scipy.linalg import block_diag, lapack
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import ThreadpoolController

_JITTER = 1e-8
_LEVEL = 1.0  # variance of the level, in standardised targets
# Of a warp: below, the worst or best scores stretch until luck among them rules; beyond, it is the identity.
_OFFSETS = 0.005, 100.0
_SHARED_NOISE = 0.7  # of the noise is one draw for all points of a trial's curve: they share a seed
_ACCIDENTS = 1.0, 20.0  # of so many trials, before any is seen: whose luck is as wide as all scores together
# Density of a score that is better than all others say, per accident and sd of all scores: beyond 2.7 of them
# it is more probable than an accident.
_DISCOVERY = 1e-2
_DOUBT = 0.05  # of the variance of success, at least, is luck: or one parameter explains each failure
JUDGED_FROM = 12  # trials: of fewer, none is said to have collapsed
NINE_OF_TEN = 1.645  # sds within which so many draws of a normal lie
_TRUSTED = 5.0  # trials whose predictions by the others are as good as their sds say, before any is seen
_WEIGHINGS = 4  # at most, of the trials, each by all others as they weigh; more change little
_STEPS = 40  # of L-BFGS, at most; fewer where a fit goes on among many trials
_QUIET = 1e-3  # noise variance from which a fit is tried once more where it found ten times as much
_RETRIED = 4  # results between the fits that are tried from elsewhere too than where the last one ended
_DRAWS, _DRAWN = 3, 150  # of the score's from so many draws of the prior, while there are no more rows
_WIDE = 0.25  # of its prior's centre is a lengthscale of success at least: else each collapse is an island


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()  # those of numpy and scipy; looking for them takes milliseconds


_door = Lock()
_held: list[Any] = []  # an entry for each that computes now: the limit that the first of them set


@contextmanager
def one_thread() -> Iterator[None]:
    """Small matrices are many times slower on many threads; the user's own settings come back.

    They are the process's: of sweeps in threads of their own the last one out brings them back.
    """
    with _door:
        _held.append(_held[0] if _held else _thread_pools().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _door:
            limit = _held.pop()
            if not _held:
                limit.restore_original_limits()


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
        self.x = np.asarray(features, float)  # [n, f]
        largest = max(float(np.abs(targets).max(initial=0.0)), 1e-300)  # first, so that no square overflows
        spread = float(np.std(targets / largest))
        self.scale = largest * (spread if spread > 1e-12 else 1.0)
        self.shift = float(np.mean(targets / largest)) * largest
        self.y = (targets - self.shift) / self.scale  # [n]
        self.groups, self.linear, self.trials = groups, linear, trials
        self.robust, self.failed = robust, failed
        self.warped, self.low = warped, float(targets.min())
        self.range = max(float(targets.max() - self.low), 1e-12 * largest)
        self.heights = (targets - self.low) / self.range  # [n], 0..1
        self.dim = int(self.groups.max()) + 1
        self.priors = Priors(self.dim, linear, noise_variance, warped)
        self._even = np.eye(len(self.y))  # [n, n]: the noise at equal weights
        if trials is not None:
            shared = trials[:, None] == trials[None, :]
            self._even = _SHARED_NOISE * shared + (1 - _SHARED_NOISE) * self._even
            owner, points = np.unique(trials, return_inverse=True, return_counts=True)[1:]
            by_trial = np.split(np.argsort(owner, kind="stable"), np.cumsum(points)[:-1])
            self._rows = [  # [trials, points] of those with as many points
                np.stack([rows for rows in by_trial if len(rows) == count]) for count in np.unique(points)
            ]
        self.noise_shape = self._even  # [n, n], times the noise variance
        self.accident, self.discovery = np.zeros((2, len(self.y)))  # [n] each, how probable
        self._place = np.unique(self.x, axis=0, return_inverse=True)[1].ravel()  # [n], of its params
        self.width = 1.0  # of honest intervals, in those of the process
        self._factor: tuple[np.ndarray, np.ndarray] | None = None
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
        sparse, all others say that the first success is none. Where params ran again, what is better or
        dearer and comes back by half is no accident, and what does not is no discovery. A cost is an accident
        only if it is higher: no busy machine makes a trial cheaper.
        """
        noise, (prior, of) = math.exp(self.hyper[self.dim + 1]), _ACCIDENTS
        judged = np.arange(len(self.y)) < len(self.y) - self.failed
        other = np.where(judged, 0.0, -math.inf)  # than plain
        share, self.accident = prior / of, np.zeros(len(self.y))
        again, above = self._repeated()
        for _ in range(_WEIGHINGS):
            before = self.accident
            off, doubt = self._left_out()
            # The variance of standardised targets is 1. A discovery may be of any size, but no cost is one.
            plain, wide = (
                -0.5 * (off**2 / v + np.log(2 * math.pi * v)) for v in (doubt + noise, doubt + noise + 1)
            )
            shared = off > np.maximum(2 * above, 0)
            found = np.where(shared & self.warped, math.log(share * _DISCOVERY), -math.inf)
            could = ((off > 0) | self.warped) & ~(shared & again)
            wide = np.where(could, wide + math.log(share), -math.inf)
            kinds = np.stack([plain + math.log(1 - share), wide + other, found + other])
            highest = kinds.max(0)
            density = np.exp(kinds - highest)
            total = density.sum(0)
            self.accident, self.discovery = density[1] / total, density[2] / total
            self.evidence = float((highest + np.log(total)).sum()) + self._log_slope
            share = (prior + float(self.accident.sum())) / (of + float(judged.sum()))
            weight = 1 - self.accident / (1 + noise)  # its own, so that the rest of its curve keeps theirs
            self.noise_shape, self._factor = self._even + np.diag(1 / weight - 1), None
            if np.abs(self.accident - before).max() < 0.01:
                break
        missed = (np.abs(off) / np.sqrt(doubt + noise))[judged]
        ratio = max(float(np.quantile(missed, 0.9)), 1e-3) / NINE_OF_TEN
        self.width = ratio ** (len(missed) / (len(missed) + _TRUSTED))

    def _repeated(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether there are other rows of the same params, and how far each is above their mean, [n] each."""
        count, total = (np.bincount(self._place, weights)[self._place] for weights in (None, self.y))
        return count > 1, (count * self.y - total) / np.maximum(count - 1, 1)

    def _warp(self, hyper: np.ndarray) -> None:
        low, high = np.exp(hyper[-2:])
        logs = np.log((self.heights + low) / (1 + high - self.heights))
        self.shift, spread = float(logs.mean()), float(logs.std())
        self.scale = spread if spread > 1e-9 else 1.0
        self.y = (logs - self.shift) / self.scale
        self._slopes = 1 / (self.heights + low) + 1 / (1 + high - self.heights)  # [n]
        self._log_slope = float(np.log(self._slopes).sum()) - len(self.y) * math.log(self.scale)

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
        matern, slope = _matern(_squared(z, z), math.exp(hyper[self.dim]))
        kernel = matern + self._rest(self.x, self.x, hyper)
        factor = _cholesky(kernel + noise * self.noise_shape)
        alpha = _solve(factor, self.y)
        value = 0.5 * float(self.y @ alpha) + float(np.log(factor.diagonal()).sum())
        value += 0.5 * len(self.y) * math.log(2 * math.pi)
        # d loss / d t = -1/2 sum(w * dK/dt); by lengthscale dK/dlog l = slope * (z_a - z_b)^2, where slope is
        # minus the derivative of K by half the squared distance.
        w = np.outer(alpha, alpha) - _inverse(factor)
        m = w * slope
        by_feature = 2 * ((z * z * m.sum(1)[:, None]).sum(0) - (z * (m @ z)).sum(0))
        gradient = np.zeros(len(hyper))
        gradient[: self.dim] = -0.5 * self._by_parameter(by_feature)
        gradient[self.dim] = -0.5 * np.vdot(w, matern)
        gradient[self.dim + 1] = -0.5 * noise * np.vdot(w, self.noise_shape)
        if self.linear:
            by_feature = (self.x * (w @ self.x)).sum(0)
            slopes = slice(self.dim + 2, 2 * self.dim + 2)
            gradient[slopes] = -0.5 * np.exp(hyper[slopes]) * self._by_parameter(by_feature)
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

    def fit(
        self, starts: list[np.ndarray], steps: int, retries: list[np.ndarray] | None = None
    ) -> GaussianProcess:
        """Sets `hyper` to the best maximum a posteriori found by L-BFGS from each of `starts`.

        Of a robust process with its trials as they weigh by the start, if there is but one; else first with
        trials of equal weight, then, twice, as they weigh by what was found: accidents stand out from a fit.
        With `retries` (None: without) also from each of them, and from next to no noise where accidents may
        have drowned in it; kept is what explains the trials best, each by the others.
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
        if retries is None:
            return self
        if self.hyper[self.dim + 1] > math.log(10 * _QUIET):
            quiet = self.hyper.copy()
            quiet[self.dim + 1] = math.log(_QUIET)
            retries = [quiet, *retries]
        best, explained = self.hyper, self._explanation()
        for start in retries:
            self.set_hyper(start)
            self._search([start], _STEPS)
            if self._explanation() > explained:
                best, explained = self.hyper, self._explanation()
        if self.hyper is not best:
            self.set_hyper(best)
        return self

    def _explanation(self) -> float:
        """Log density of the trials, each by the others, and of the hyperparameters by their prior."""
        off = (self.hyper - self.priors.mean) / self.priors.sd
        return self.evidence - 0.5 * float(off @ off)

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
        mean, sd = self._predict(features)
        return self.shift + self.scale * mean, self.scale * sd

    def mean(self, features: np.ndarray) -> np.ndarray:
        """The first of what `predict` gives, [m], in a third of the time."""
        return self.shift + self.scale * (self._kernel(features, self.x) @ self._factored()[1])

    def _predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factor, alpha = self._factored()
        cross = self._kernel(x, self.x)
        mean = cross @ alpha
        solved = lapack.dtrtrs(factor, cross.T, lower=1, overwrite_b=1)[0]
        prior = np.full(len(x), _LEVEL + math.exp(self.hyper[self.dim]))
        if self.linear:
            prior += (x * x) @ np.exp(self.hyper[self.dim + 2 :])[self.groups]
        variance = prior - np.einsum("ij,ij->j", solved, solved)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def believe(
        self, features: np.ndarray, at_least: np.ndarray | None = None, hope: float = 0.0
    ) -> GaussianProcess:
        """The same process, having seen its means and `hope` sds more at `features` [m, f] too; or `at_least`
        [m] if higher."""
        if not len(features):
            return self
        mean, sd = self._predict(features)
        believed = mean + hope * sd
        if at_least is not None:
            believed = np.maximum(believed, (at_least - self.shift) / self.scale)
        new = copy(self)
        new.x, new.y = np.concatenate([self.x, features]), np.concatenate([self.y, believed])
        new.noise_shape = block_diag(self.noise_shape, np.eye(len(features)))
        new._factor = None
        return new

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each row, by how much the prediction from all other trials misses it, and the sd of that, [n].

        Luck included, any trial's and not its own; in the units of predictions. Rows that share a trial are
        left out together (Rasmussen and Williams 2006, 5.4.2).
        """
        off, doubt = self._left_out()
        return self.scale * off, self.luck(self.scale * np.sqrt(doubt))

    def luck(self, sd: np.ndarray) -> np.ndarray:
        """Of single trials where the function's sd is `sd` [m]: their sd, as wide as misses have been, [m].

        A process is too modest where scores are smooth and without luck, too sure where luck has long tails.
        Proposals go by its own sds: what lies between dense trials says little of what lies beyond them.
        """
        return self.width * np.hypot(sd, self.noise_sd)

    def _left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """By how much the prediction misses [n], and the variance of that without the row's own noise [n]."""
        factor, alpha = self._factored()
        inverse = _inverse(factor)
        if self.trials is None:
            variance = 1 / inverse.diagonal()
            off = alpha * variance
        else:
            off, variance = np.empty_like(alpha), np.empty_like(alpha)
            for rows in self._rows:
                block = np.linalg.inv(inverse[rows[:, :, None], rows[:, None, :]])
                off[rows] = (block @ alpha[rows][:, :, None])[:, :, 0]
                variance[rows] = block.diagonal(axis1=1, axis2=2)
        own = math.exp(self.hyper[self.dim + 1]) * self.noise_shape.diagonal()
        return off, np.maximum(variance - own, 0)

    def collapsed(self) -> np.ndarray:
        """Of each row, how probable it is that it is an accident for the worse, [n]."""
        return self.accident * (self.left_out()[0] < 0)

    def explained(self) -> float:
        """Share of the targets' variance that the rest predicts when each trial is left out, at most 1; 0
        where all are equal, for these tell nothing."""
        off, spread = self.left_out()[0] / self.scale, float((self.y**2).mean())
        return 1 - float((off**2).mean()) / spread if spread > 1e-12 else 0.0

    @property
    def noise_sd(self) -> float:
        """Of the luck of a trial that is no accident."""
        return self.scale * math.exp(0.5 * self.hyper[self.dim + 1])

    def as_gpytorch(self) -> Any:
        """This process as a gpytorch model: the definition, for reading, checking and joint samples."""
        import gpytorch
        import torch

        process = self
        x, y, noise_shape = map(torch.as_tensor, (self.x, self.y, self.noise_shape))

        class Definition(gpytorch.models.ExactGP):
            def __init__(self) -> None:
                hyper = torch.as_tensor(process.hyper).exp()
                noise = hyper[process.dim + 1] * noise_shape.diagonal()
                likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(noise)
                super().__init__(x, y, likelihood)
                matern = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=x.shape[1])
                matern.lengthscale = hyper[process.groups]
                self.mean_module = gpytorch.means.ZeroMean()
                scaled = gpytorch.kernels.ScaleKernel(matern)
                scaled.outputscale = hyper[process.dim]
                level = gpytorch.kernels.ConstantKernel()
                level.constant = torch.as_tensor(_LEVEL)
                self.covar_module = scaled + level
                if process.linear:
                    line = gpytorch.kernels.LinearKernel(ard_num_dims=x.shape[1])
                    line.variance = hyper[process.dim + 2 :][process.groups]
                    self.covar_module = self.covar_module + line

            def forward(self, x: torch.Tensor) -> Any:
                return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

        return Definition().double()

    def _scaled(self, x: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        """Features by their lengthscales, times sqrt(5): the distances that the Matern kernel takes."""
        return x * (math.sqrt(5) * np.exp(-hyper[: self.dim]))[self.groups]

    def _by_parameter(self, by_feature: np.ndarray) -> np.ndarray:
        return np.bincount(self.groups, by_feature, self.dim)

    def _kernel(self, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        squared = _squared(self._scaled(x1, self.hyper), self._scaled(x2, self.hyper))
        return _matern(squared, math.exp(self.hyper[self.dim]))[0] + self._rest(x1, x2, self.hyper)

    def _rest(self, x1: np.ndarray, x2: np.ndarray, hyper: np.ndarray) -> np.ndarray | float:
        """The level and, [n1, n2], the linear kernel with a slope of its own variance for each parameter."""
        if not self.linear:
            return _LEVEL
        return _LEVEL + (x1 * np.exp(hyper[self.dim + 2 :])[self.groups]) @ x2.T

    def _factored(self) -> tuple[np.ndarray, np.ndarray]:
        if self._factor is None:
            noise = math.exp(self.hyper[self.dim + 1])
            factor = _cholesky(self._kernel(self.x, self.x) + noise * self.noise_shape)
            self._factor = factor, _solve(factor, self.y)
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
        mean, sd = process.priors.mean, process.priors.sd
        if count < 30 or not known:
            known += [mean, mean + 0.7 * sd * generator.standard_normal(len(mean))]
        elif name == "success" and retry:
            known.append(mean)  # labels are so few that a fit keeps to the islands it once saw
        draws = _DRAWS if retry and name == "score" and count <= _DRAWN else 0
        anew = [mean + 0.7 * sd * generator.standard_normal(len(mean)) for _ in range(draws)]
        return process.fit(known, _STEPS if count < 60 else 15, anew if retry else None)

    processes = {"score": fit("score", score), "cost": fit("cost", log_cost)}
    # Yes or no: as probabilities, doubts about low scores would pass for failures while there are few trials.
    collapsed = (score.collapsed()[:count][final] > 0.5) & (seen.results >= JUDGED_FROM)
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


def _squared(z1: np.ndarray, z2: np.ndarray) -> np.ndarray:
    """Squared distances, [n1, n2]."""
    squared = z1 @ (-2 * z2.T)
    squared += (z1 * z1).sum(1)[:, None]
    squared += (z2 * z2).sum(1)
    return np.maximum(squared, 1e-30, out=squared)


def _matern(squared: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Matern-5/2 of such distances, and minus its derivative by half of `squared`, which it overwrites.

    In place where it can be: this is where proposals spend their time.
    """
    r = np.sqrt(squared)
    falling = np.exp(-r)
    falling *= variance / 3
    r += 1
    squared += 3 * r
    squared *= falling
    falling *= r
    return squared, falling


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower factor; adds the least power-of-ten jitter that makes rounding errors harmless."""
    jitter = _JITTER
    while jitter < 1.0:
        matrix.flat[:: len(matrix) + 1] += jitter
        factor, info = lapack.dpotrf(matrix.T, lower=1)  # .T: in the order that LAPACK wants, without a copy
        if not info:
            return factor
        jitter *= 10
    raise ArithmeticError("a covariance matrix is not positive definite")


def _solve(factor: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The matrix of this lower factor, inverted, times [n]."""
    return lapack.dpotrs(factor, y, lower=1)[0]


def _inverse(factor: np.ndarray) -> np.ndarray:
    """Of the matrix of this lower factor, [n, n]."""
    lower = lapack.dpotri(factor, lower=1)[0]
    inverse = lower + lower.T
    inverse.flat[:: len(inverse) + 1] *= 0.5
    return inverse
