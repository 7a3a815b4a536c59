"""What the OpenAPI document says about `POST /v1/predict`, with examples."""

from typing import Any

_PICTURE = {"type": "string", "format": "binary"}
PICTURES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": _PICTURE,
                            "minItems": 1,
                            "maxItems": 16,
                            "description": "Pictures (JPEG, PNG, WebP, BMP, GIF); repeat the field "
                            "for several.",
                        }
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 16,
                            "items": {"type": "string"},
                            "description": "Pictures as base64 or data URL.",
                        }
                    },
                },
                "example": {
                    "images": [
                        "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="
                    ]
                },
            },
        },
    }
}
"""The request body; FastAPI does not parse it, so that its limits are ours."""

_PREDICTION = {
    "label": "cat",
    "unknown": False,
    "unknown_score": 0.12,
    "top": [{"label": "cat", "probability": 0.93}, {"label": "dog", "probability": 0.05}],
    "prediction_set": ["cat"],
}
_FIELDS = {
    "label": {
        "type": ["string", "null"],
        "description": "The likeliest class; null: unknown, none of the classes.",
    },
    "unknown": {"type": "boolean"},
    "unknown_score": {
        "type": ["number", "null"],
        "description": "Distance from the training pictures.",
    },
    "top": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"label": {"type": "string"}, "probability": {"type": "number"}},
        },
    },
    "prediction_set": {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "description": "Classes that hold the true one with the coverage of the model's decision.",
    },
    "heatmap": {"type": ["array", "null"], "items": {"type": "array", "items": {"type": "number"}}},
    "embedding": {"type": "array", "items": {"type": "number"}},
}
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One prediction for each picture.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "model": {
                            "type": "object",
                            "properties": {
                                "name": {"type": "string"},
                                "digest": {"type": "string"},
                            },
                        },
                        "predictions": {
                            "type": "array",
                            "items": {"type": "object", "properties": _FIELDS},
                        },
                    },
                },
                "example": {
                    "model": {"name": "pets", "digest": "3f2a..."},
                    "predictions": [_PREDICTION],
                },
            }
        },
    }
}


def _error(description: str, sentence: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"error": {"type": "string"}}}
    return {
        "description": description,
        "content": {"application/json": {"schema": schema, "example": {"error": sentence}}},
    }


ERRORS: dict[int | str, dict[str, Any]] = {
    400: _error("Not a well-formed request.", "Invalid boundary."),
    401: _error("Credentials are missing or wrong.", "Credentials are needed."),
    403: _error(
        "A web page of another site asked.", "Web pages of other sites may not use this service."
    ),
    408: _error("The body did not arrive in time.", "The request did not arrive in time."),
    413: _error(
        "Too many bytes or pixels.", "The request is too large: at most 32 MB are accepted."
    ),
    415: _error(
        "Neither multipart nor JSON, or compressed.",
        "Expected multipart/form-data or application/json.",
    ),
    422: _error(
        "No picture, or one that cannot be read.", "Picture: damaged: image file is truncated."
    ),
    429: _error(
        "Too many wrong credentials came from this address; see Retry-After.", "Try again in 4 s."
    ),
    503: _error(
        "Too much at once, or shutting down; see Retry-After.", "Too many pictures are waiting."
    ),
    504: _error("The deadline passed.", "The answer was not ready in time."),
}
"""Status -> what it means, with an example."""
