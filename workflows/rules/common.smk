# The configured run, and what every rule shares.
import os
import sys

from posescale import lifeline
from posescale import workflow as steps

plan = steps.plan(config)

# Rules find `posescale` beside the interpreter that runs Snakemake, whether or not an environment is activated,
# and end with the run that started them, even when that is killed.
shell.prefix(
    f"set -euo pipefail; export PATH={os.path.dirname(sys.executable)}:$PATH"
    f" {lifeline.VARIABLE}={lifeline.address()}; "
)


wildcard_constraints:
    run=plan.config.name,
    study="[a-z0-9_-]+",
    model="[a-z0-9_]+",
    control="[a-z0-9_]+",
    frames=r"\d+",
    seed=r"\d+",
    selection="last|val-best",
    condition="|".join(steps.SUFFIXES.values()),


onstart:
    steps.claim()


localrules:
    all,
    data,
    trained,
    accuracy,
    claims,
    cost,
    latency,
    scaling,
    report,
