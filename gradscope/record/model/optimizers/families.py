"""The families of optimizers that are known by name. Add one here, and nowhere else.

State keys and formulas are those of torch, torchao, timm, apex, bitsandbytes and schedulefree.
"""

from __future__ import annotations

from gradscope.record.model.optimizers.adapter import (
    Adapter,
    always,
    as_set,
    constant,
    item,
    key,
    pair,
    unknown,
)

ADAM = Adapter(
    classes=(
        *("Adam", "AdamW", "NAdam", "NAdamW", "RAdam", "SparseAdam", "AMSGrad", "LAMB", "Lamb"),
        *("FusedAdam", "FusedAdamW", "FusedLAMB", "DeepSpeedCPUAdam", "AdamWLegacy", "NAdamLegacy"),
        *("Adam8bit", "AdamW8bit", "Adam32bit", "AdamW32bit", "PagedAdam", "PagedAdamW"),
        *("PagedAdam8bit", "PagedAdamW8bit", "PagedAdam32bit", "PagedAdamW32bit"),
        *("Adam4bit", "AdamW4bit", "AdamFp8", "AdamWFp8"),
    ),
    alpha=constant(0.5),
    exp_avg_sq=("exp_avg_sq", "state2"),
    exp_avg=("exp_avg", "state1"),
    beta1=pair("betas", 0),
    beta2=pair("betas", 1),
    is_bias_corrected=as_set("bias_correction", "correct_bias"),
)

SMES = Adapter(
    classes=("SMES",),
    alpha=key("alpha"),
    exp_avg_sq=("exp_avg_sq",),
    exp_avg=("exp_avg",),
    beta1=pair("betas", 0),
    beta2=pair("betas", 1),
    is_bias_corrected=as_set("bias_correction"),
)

ADAMAX = Adapter(  # its second moment is a maximum
    classes=("Adamax",),
    exp_avg=("exp_avg",),
    beta1=pair("betas", 0),
    is_bias_corrected=always,
)

ADAN = Adapter(  # arXiv 2208.06677; the second of three betas belongs to differences of gradients
    classes=("Adan",),
    alpha=constant(0.5),
    exp_avg_sq=("exp_avg_sq",),
    exp_avg=("exp_avg",),
    beta1=item("betas", 0, length=3),
    beta2=item("betas", 2, length=3),
    is_bias_corrected=always,
)

SCHEDULE_FREE_ADAM = Adapter(  # arXiv 2405.15682; its beta1 interpolates between weights
    classes=("AdamWScheduleFree", "RAdamScheduleFree"),
    alpha=constant(0.5),
    exp_avg_sq=("exp_avg_sq",),
    beta2=pair("betas", 1),
    is_bias_corrected=always,
    group_step="k",
)

SCHEDULE_FREE_SGD = Adapter(classes=("SGDScheduleFree",), alpha=constant(0.0), group_step="k")

ADAGRAD = Adapter(  # a sum of squares, which needs no correction
    classes=("Adagrad",), alpha=constant(0.5), exp_avg_sq=("sum",)
)

RMSPROP = Adapter(  # the momentum buffer holds updates, not gradients; grad_avg if centered
    classes=("RMSprop",),
    alpha=constant(0.5),
    exp_avg_sq=("square_avg",),
    exp_avg=("grad_avg",),
    beta1=key("momentum"),
    beta2=key("alpha"),
)

ADADELTA = Adapter(
    classes=("Adadelta",), alpha=constant(0.5), exp_avg_sq=("square_avg",), beta2=key("rho")
)

ADAFACTOR = Adapter(  # of matrices it keeps rows and columns only; its beta2 changes with the step
    classes=("Adafactor",),
    alpha=constant(0.5),
    exp_avg_sq=("exp_avg_sq", "variance"),
    exp_avg=("exp_avg",),
)

SGD = Adapter(
    classes=("SGD",),
    alpha=constant(0.0),
    exp_avg=("momentum_buffer",),
    beta1=key("momentum"),
    is_average=False,
)

ASGD = Adapter(classes=("ASGD",), alpha=constant(0.0))

MUON = Adapter(
    classes=("Muon",),
    exp_avg=("momentum_buffer",),
    beta1=key("momentum"),
    is_average=False,
)

LION = Adapter(  # arXiv 2302.06675; the moment decays by the second beta
    classes=("Lion", "Lion8bit", "Lion32bit", "PagedLion", "FusedLion"),
    exp_avg=("exp_avg", "state1"),
    beta1=pair("betas", 1),
)

OTHERS = Adapter(classes=("Rprop", "LBFGS"))

FAMILIES: tuple[Adapter, ...] = (
    *(ADAM, SMES, ADAMAX, ADAN, SCHEDULE_FREE_ADAM, SCHEDULE_FREE_SGD, ADAGRAD, RMSPROP),
    *(ADADELTA, ADAFACTOR, SGD, ASGD, MUON, LION, OTHERS),
)

UNKNOWN = Adapter(
    classes=(),
    exp_avg_sq=("exp_avg_sq",),
    exp_avg=("exp_avg",),
    beta1=pair("betas", 0),
    is_bias_corrected=unknown,
)
"""For other classes: raw moments under torch's names, and nothing that depends on a formula.

No ``beta2`` either: some classes correct the second moment as they go, fill it from their first
step, scale its gradients or rotate them, and none of that shows in the names.
"""
