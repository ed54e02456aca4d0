# Accuracy, cost, latency and memory. A failure is a record: these jobs write what happened and end well.
rule evaluate:
    input:
        data="results/{run}/data/{study}/index.json",
        weights="results/{run}/train/{study}/{model}-T{frames}-seed{seed}/weights-{selection}.pt",
    output:
        "results/{run}/measure/{study}/accuracy/{model}-T{frames}-seed{seed}-{selection}{condition}.jsonl",
    log:
        "results/{run}/logs/evaluate-{study}-{model}-T{frames}-seed{seed}-{selection}{condition}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        model=plan.model,
        code=lambda w: steps.code_digest("metrics", "train", model=plan.model(w)),
        data=subpath(input.data, parent=True),
        options=lambda w: steps.scoring_options(
            plan.study(w), w.model, w.condition, plan.config.machine
        ),
    shell:
        "posescale evaluate {params.model} --data {params.data} --frames {wildcards.frames}"
        " --weights {input.weights} {params.options} --study {wildcards.study} --threads {threads}"
        " --record {output} 2>&1 | tee {log}"


rule control:
    input:
        "results/{run}/data/{study}/index.json",
    output:
        "results/{run}/measure/{study}/controls/{control}-T{frames}.jsonl",
    log:
        "results/{run}/logs/control-{study}-{control}-T{frames}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        code=lambda w: steps.code_digest("metrics", "train", model=w.control),
        data=subpath(input[0], parent=True),
    shell:
        "posescale evaluate {wildcards.control} --data {params.data} --frames {wildcards.frames}"
        " --study {wildcards.study} --record {output} 2>&1 | tee {log}"


rule count:
    output:
        "results/{run}/measure/{study}/cost/{model}.jsonl",
    log:
        "results/{run}/logs/cost-{study}-{model}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        model=lambda w: steps.measured(plan.study(w), [w.model]),
        frames=lambda w: steps.shapes(plan.study(w), plan.study(w).cost),
        code=lambda w: steps.code_digest(
            "ops", "layers", "measure", model=plan.model(w)
        ),
    shell:
        "posescale cost {params.model} --frames {params.frames} --study {wildcards.study}"
        " --record {output} 2>&1 | tee {log}"


# Timings have the machine to themselves: all cores are taken, and no two timings share the lane.
rule time_models:
    output:
        "results/{run}/measure/{study}/latency.jsonl",
    log:
        "results/{run}/logs/latency-{study}.log",
    conda:
        "../../environment.yml"
    threads: workflow.cores
    resources:
        measure_lane=1,
    params:
        models=lambda w: steps.measured(plan.study(w), plan.study(w).latency_models()),
        frames=lambda w: steps.shapes(plan.study(w), plan.study(w).latency),
        grid=lambda w: plan.study(w).latency,
        limits=lambda w: steps.limits(plan.study(w).latency),
        code=lambda w: steps.code_digest("ops", "layers", "measure"),
    shell:
        "posescale latency {params.models} --frames {params.frames} --batch {params.grid.batch}"
        " --threads {params.grid.threads} --rounds {params.grid.rounds} --seconds {params.grid.seconds}"
        " {params.limits}"
        " --study {wildcards.study} --record {output} 2>&1 | tee {log}"


# Counts behind the verdicts on published numbers, for models that no study of this run counts.
rule count_claims:
    input:
        plan.cost(),
    output:
        "results/{run}/measure/claims.jsonl",
    log:
        "results/{run}/logs/claims.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        records=lambda w, input: " ".join(f"--records {path}" for path in input),
        code=steps.code_digest("claims", "measure", "ops", "layers"),
        components=steps.components_digest(),
    shell:
        "posescale claims {params.records} --record {output} 2>&1 | tee {log}"


rule claims:
    input:
        plan.claims(),


rule accuracy:
    input:
        plan.accuracy(),


rule cost:
    input:
        plan.cost(),


rule latency:
    input:
        plan.latency(),


rule scaling:
    input:
        plan.cost(),
        plan.latency(),
