"""transformers' Trainer: keyword arguments, Accelerate's wrappers around what it trains."""

import warnings

import torch
import transformers

warnings.simplefilter("ignore")
transformers.set_seed(3)
tokens = torch.randint(0, 13, (16, 6))
config = transformers.GPT2Config(
    vocab_size=13,
    n_positions=8,
    n_embd=8,
    n_layer=1,
    n_head=2,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)
arguments = transformers.TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=2,
    gradient_accumulation_steps=2,
    max_steps=3,
    logging_steps=1,
    report_to=[],
    save_strategy="no",
    use_cpu=True,
    disable_tqdm=True,
    dataloader_pin_memory=False,
)
trainer = transformers.Trainer(
    model=transformers.GPT2LMHeadModel(config),
    args=arguments,
    train_dataset=[{"input_ids": t, "labels": t} for t in tokens],
)
trainer.train()
for log in trainer.state.log_history:
    if "loss" in log:
        print("loss", log["loss"])
