"""What the API and the worker share: contract, catalogue, modalities and store. No torch, no FastAPI, no Celery."""
