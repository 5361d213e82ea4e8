"""A body for every operation that takes one, as its documentation shows it."""

from typing import Any

ID = "6b0f2a4e-3d53-4c0e-9a59-8f1d2c7b5e10"
OTHER = "b61c9e0a-7b1d-4f57-8d0e-2f4a9c3d7e22"
THIRD = "d2f4c1b7-0c7e-4a91-bb0e-61f7a5c98e34"
EDITS = [{"example_id": "s17", "weight": 0}, {"example_id": "s42", "weight": 3}]

EXAMPLES: dict[str, dict[str, Any]] = {
    "create_project": {"name": "Tweets", "description": "Which labels hurt?"},
    "change_project": {"name": "Tweets", "description": "Which labels hurt, and how much?"},
    "set_member": {"username": "ada", "role": "reviewer"},
    "begin_upload": {"file_name": "tweets.jsonl", "size": 1_048_576},
    "create_dataset": {"name": "tweets"},
    "create_version": {"upload": ID},
    "import_version": {
        "task": "text_classification",
        "example_id": "id",
        "text": "text",
        "label": "label",
        "split": "split",
    },
    "create_model": {"name": "bag", "architecture": {"name": "bag_of_embeddings"}},
    "create_uploaded_model": {
        "name": "small-transformer",
        "files": {"config.json": ID, "model.safetensors": OTHER, "tokenizer.json": THIRD},
    },
    "create_recipe": {"name": "short", "settings": {"epochs": 3, "learning_rate": 0.05}},
    "train_baseline": {
        "name": "first",
        "dataset_version": ID,
        "model": OTHER,
        "recipe": THIRD,
        "number_of_seeds": 4,
    },
    "add_behaviour": {
        "name": "margin of the ups",
        "kind": "mean_margin",
        "definition": {"selection": "class", "label": "up"},
    },
    "compute_influence": {"method": "replay"},
    "extend_bank": {"number_of_edits": 48, "seeds_per_edit": 2},
    "estimate_bank": {"number_of_edits": 48, "seeds_per_edit": 2},
    "save_probe_set": {"name": "hard ones", "example_ids": ["row-17", "row-42"]},
    "create_proposal": {"name": "cleaner", "hypothesis": "Without these labels the margin grows."},
    "set_edits": {"edits": EDITS, "description": "Two that look wrong."},
    "set_matching_edits": {"label": "up", "search": "not good", "weight": 0},
    "copy_proposal": {"name": "cleaner, second try"},
    "predict_what_if": {"edits": EDITS},
    "predict_proposal": {"method": "replay", "level": 0.9},
    "check_labels": {"encoder": ID},
    "suggest_edits": {"number_of_edits": 40, "guards": [{"behaviour": OTHER, "tolerance": 0.05}]},
    "propose_suggestion": {"name": "as suggested", "hypothesis": "The margin grows by 0.2."},
    "register": {"primary_behaviour": ID, "number_of_seeds": 8, "smallest_effect": 0.05},
    "abandon_registration": {"reason": "The data was withdrawn."},
    "invalidate_registration": {"reason": "The test ran on a machine with faulty memory."},
    "record_deviation": {"description": "Seed 3 was trained twice after a power cut."},
    "review_retrain": {"accepted": False, "reason": "The loss was not finite."},
    "create_webhook": {"url": "https://example.com/hunch", "events": ["verdict.given"]},
}
