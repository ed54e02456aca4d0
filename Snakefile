# The one graph engine. Every rule calls one verb of the `posescale` command line, so each step also runs by hand.
#
#   snakemake --cores 2                                             the embedded synthetic run
#   snakemake --cores 2 --configfile workflows/config/cmu.yaml      real motion
#   snakemake --cores 2 accuracy | cost | latency | report          parts of it

if "studies" not in config:

    configfile: "workflows/config/default.yaml"


include: "workflows/rules/common.smk"
include: "workflows/rules/data.smk"
include: "workflows/rules/train.smk"
include: "workflows/rules/measure.smk"
include: "workflows/rules/report.smk"


rule all:
    default_target: True
    input:
        plan.report,
