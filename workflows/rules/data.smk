# Raw or generated motion -> memory-mapped arrays.
rule prepare:
    input:
        plan.raw,
    output:
        "results/{run}/data/{study}/index.json",  # names the arrays beside it and holds their digest
    log:
        "results/{run}/logs/prepare-{study}.log",
    conda:
        "../../environment.yml"
    params:
        dataset=lambda w: plan.study(w).dataset.name,
        options=lambda w: steps.data_options(plan.study(w)),
        code=steps.code_digest("data"),
        folder=subpath(output[0], parent=True),
    shell:
        "posescale data prepare {params.dataset} --out {params.folder} {params.options} 2>&1 | tee {log}"


rule data:
    input:
        plan.data(),
