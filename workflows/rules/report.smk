# Tables, figures and the page, from records alone.
rule publish:
    input:
        plan.records(),
    output:
        plan.report,
    log:
        f"{plan.root}/logs/report.log",
    conda:
        "../../environment.yml"
    params:
        title=plan.config.title,
        records=lambda w: plan.root,
        published=" ".join(f"--records {folder}" for folder in plan.config.published),
        studies=plan.titles(),
        code=steps.code_digest("report"),
        folder=subpath(output[0], parent=True),
    shell:
        "posescale report --records {params.records} {params.published} --title {params.title:q} {params.studies}"
        " --out {params.folder} 2>&1 | tee {log}"


rule report:
    input:
        plan.report,
