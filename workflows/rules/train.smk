# One job per model, clip length and seed. A killed job goes on where its last checkpoint stands.
rule train:
    input:
        data="results/{run}/data/{study}/index.json",
        start=lambda w: steps.start_file(plan, w),
    output:
        expand(
            "results/{{run}}/train/{{study}}/{{model}}-T{{frames}}-seed{{seed}}/{file}",
            file=steps.WEIGHTS,
        ),
    log:
        "results/{run}/logs/train-{study}-{model}-T{frames}-seed{seed}.log",
    wildcard_constraints:
        study=plan.validated(),
    conda:
        "../../environment.yml"
    threads: plan.config.machine.threads
    params:
        options=lambda w: steps.training_options(
            plan.study(w), w.model, plan.config.machine
        ),
        model=plan.model,
        start=lambda w, input: " ".join(f"--start {path}" for path in input.start),
        code=lambda w: steps.code_digest("ops", "layers", "train", model=plan.model(w)),
        data=subpath(input.data, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "posescale train {params.model} --data {params.data} --frames {wildcards.frames}"
        " --seed {wildcards.seed} {params.options} {params.start} --study {wildcards.study} --threads {threads}"
        " --out {params.folder} 2>&1 | tee {log}"


# Without validation data there is no best epoch.
use rule train as train_without_validation with:
    output:
        expand(
            "results/{{run}}/train/{{study}}/{{model}}-T{{frames}}-seed{{seed}}/{file}",
            file=steps.LAST_WEIGHTS,
        ),
    wildcard_constraints:
        study=plan.unvalidated(),


rule trained:
    input:
        plan.trained(),
