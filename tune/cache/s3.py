"""Access to Amazon S3 and what speaks its protocol: the region of a bucket and the user's credentials.

As with the tools of AWS, credentials come from the environment, a profile or the role of the machine, and the variable
AWS_ENDPOINT_URL names another server.
"""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store
from pyarrow import fs

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def open_s3(address: str, client_options: "ClientConfig", retry_config: "RetryConfig") -> S3Store:
    """Returns the store at s3://BUCKET/PATH. Raises: OSError when there are no credentials or no such bucket."""
    try:
        credentials = Boto3CredentialProvider()
    except ValueError as error:
        raise OSError("there are no credentials for it in the environment or in ~/.aws") from error
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    settings: S3Config = {}
    if endpoint is None:
        settings = {"region": fs.resolve_s3_region(urlsplit(address).netloc)}  # no redirection to it is followed
    elif endpoint.startswith("http://"):
        client_options = {**client_options, "allow_http": True}
    return S3Store.from_url(
        address,
        config=settings,
        client_options=client_options,
        retry_config=retry_config,
        credential_provider=credentials,
    )
