"""ECR in the local cloud: a registry with real bytes and the API that describes them, in agreement."""
