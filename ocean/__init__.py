"""Fast environments in C: one header each, compiled on first use, stepped by the thousand.

env = ocean.Vector("breakout", num_envs=1024, seed=0, settings={"ball_speed": 300})
obs = np.empty((env.num_agents, *env.spec.obs_shape), env.spec.obs_dtype)
env.reset(obs)
env.step(actions, obs, rewards, terminals, truncations)
"""

from ocean import build
from ocean.build import BuildError, check_compiler
from ocean.contract import check
from ocean.header import Setting, Spec, find, names, settings, spec
from ocean.skeleton import write_skeleton
from ocean.vector import Vector

__all__ = [
    "BuildError",
    "Setting",
    "Spec",
    "Vector",
    "build",
    "check",
    "check_compiler",
    "find",
    "names",
    "settings",
    "spec",
    "write_skeleton",
]
