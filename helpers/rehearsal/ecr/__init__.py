"""ECR in the local cloud: a registry with real bytes, and the API that describes them, over one state.

The registry (/v2) is on a port of its own: `proxyEndpoint` of GetAuthorizationToken and `repositoryUri` lead there. It takes what
docker, skopeo, crane, Helm and the OCI specification send: tokens that expire, layers on disk with their digests checked, mounts
(once BLOB_MOUNTING is chosen), manifests that need their layers, immutable tags with exclusions, indexes, referrers. The API has
repositories, images, layers in parts, scans, lifecycle policies with preview, and some of ECR Public. What is refused is refused with
ECR's code, and with its sentence where that is known.

It differs from AWS in this:

- Nothing happens by itself: a lifecycle policy is applied when `Cloud.registry(expire_images=...)` says so.
- Scans know Debian's and Alpine's packages and the few vulnerabilities of `vulnerabilities`, and take a second.
- Images that were seeded with a past have manifests and sizes, and no bytes of their layers: pulling them is refused.
- A restored image is there at once. A pushed one is encrypted in name only.
- Permissions are not evaluated, repository policies included; `Cloud.registry(deny=...)` denies actions.
- There is no replication, pull-through cache, creation template, signing, nor a registry of ECR Public that takes bytes.
"""
