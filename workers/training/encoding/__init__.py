"""From canonical examples to tensors: what is fitted on the train split, and how rows are encoded.

`encode_examples` fits and encodes; `encode_rows` encodes further rows in the same way, from the
state that `encode_examples` returned. Reading uploads and building networks live elsewhere.
"""

from workers.training.encoding.examples import (
    Encoded,
    encode_examples,
    encode_rows,
    text_table,
    token_texts,
)

__all__ = ["Encoded", "encode_examples", "encode_rows", "text_table", "token_texts"]
