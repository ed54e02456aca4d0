# One job per model, clip length and seed. A killed job goes on where its last checkpoint stands.
rule train:
    input:
        "results/{run}/data/{study}/index.json",
    output:
        expand(
            "results/{{run}}/train/{{study}}/{{model}}-T{{frames}}-seed{{seed}}/{file}",
            file=steps.WEIGHTS,
        ),
    log:
        "results/{run}/logs/train-{study}-{model}-T{frames}-seed{seed}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        options=lambda w: steps.training_options(plan.study(w)),
        code=lambda w: steps.code_digest("ops", "layers", "train", model=w.model),
        data=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "posescale train {wildcards.model} --data {params.data} --frames {wildcards.frames}"
        " --seed {wildcards.seed} {params.options} --study {wildcards.study} --threads {threads}"
        " --out {params.folder} 2>&1 | tee {log}"


rule trained:
    input:
        plan.trained(),
