"""The Hub's addresses for reading models, answered from a folder: listing, info, tree, and files by range."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qs, quote

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from scripts.hub_repository import HubFile, Repositories, Repository

__all__ = ["HubRoutes", "answer_error"]

Row = TypeVar("Row")

TRUE = ("true", "1")

# What each `expand` gives; the real Hub knows more, none of which a folder can answer.
FIELDS: dict[str, Callable[[Repository], Any]] = {
    "author": lambda r: r.author,
    "baseModels": lambda r: (
        {"relation": r.relation, "models": [{"id": b} for b in r.base_models]} if r.base_models else None
    ),
    "cardData": lambda r: r.card,
    "config": lambda r: r.config,
    "createdAt": lambda r: iso(r.created_at),
    "disabled": lambda r: False,
    "downloads": lambda r: 0,
    "gated": lambda r: False,
    "gguf": lambda r: None,
    "lastModified": lambda r: iso(r.last_modified),
    "library_name": lambda r: r.card.get("library_name"),
    "likes": lambda r: 0,
    "pipeline_tag": lambda r: r.card.get("pipeline_tag"),
    "private": lambda r: False,
    "safetensors": lambda r: r.safetensors,
    "sha": lambda r: r.sha,
    "siblings": lambda r: [{"rfilename": file.path} for file in r.files],
    "tags": lambda r: r.tags,
    "usedStorage": lambda r: sum(file.size for file in r.files),
}
LISTED = ("createdAt", "downloads", "library_name", "likes", "pipeline_tag", "private", "tags")
LISTED_FULL = (*LISTED, "author", "gated", "lastModified", "sha", "siblings")
INFO = (*LISTED_FULL, "baseModels", "cardData", "config", "disabled", "safetensors", "usedStorage")
SORTS: dict[str, Callable[[Repository], float]] = {
    "createdAt": lambda r: -r.created_at.timestamp(),  # the Hub sorts the newest first
    "lastModified": lambda r: -r.last_modified.timestamp(),
}


class Download(FileResponse):
    """A file, streamed; ranges, 206 and 416 are Starlette's."""

    chunk_size = 1 << 20


class HubRoutes:
    """The routes over one folder. `page_size` is the most that one page of a listing holds.

    What a folder does not hold is set here: `withheld` has names of repositories that are private, gated or disabled,
    `downloads` how often each was downloaded, `moved` the new names of those that were renamed.
    """

    def __init__(self, root: Path, page_size: int = 1000) -> None:
        self.repositories = Repositories(root)
        self.page_size = page_size
        self.withheld: dict[str, str] = {}
        self.downloads: dict[str, int] = {}
        self.moved: dict[str, str] = {}
        model, both = "/api/models/{org}/{name}", ["GET", "HEAD"]
        self.routes = [
            Route("/api/models", self.list_models),
            Route("/api/models/{name}", self.no_such_model),
            Route(model, self.model_info),
            Route(model + "/revision/{revision}", self.model_info),
            Route(model + "/refs", self.refs),
            Route(model + "/tree/{revision}", self.tree),
            Route(model + "/tree/{revision}/{path:path}", self.tree),
            Route(model + "/paths-info/{revision}", self.paths_info, methods=["POST"]),
            Route("/{org}/{name}/resolve/{revision}/{path:path}", self.resolve, methods=both),
        ]

    def rename(self, old: str, new: str) -> None:
        """Move a repository; its old name leads to the new one from then on."""
        target = self.repositories.root / new
        target.parent.mkdir(exist_ok=True)
        (self.repositories.root / old).rename(target)
        self.moved.pop(new, None)
        self.moved[old] = new

    def list_models(self, request: Request) -> Response:
        query = request.query_params
        names = [name for name in self.repositories.names() if self.withheld.get(name) != "private"]
        if author := query.get("author"):
            names = [name for name in names if name.split("/")[0] == author]
        if search := query.get("search", "").lower():
            names = [name for name in names if search in name.lower()]
        if wanted := set(query.getlist("filter")):
            names = [name for name in names if (r := self.repositories.get(name)) and wanted.issubset(r.tags)]
        fields = asked(query, LISTED_FULL if query.get("full", "").lower() in TRUE else LISTED)
        page, headers = self.page(request, self.ordered(names, query.get("sort", "")))
        # Only the page's own models are read: a listing of thousands stays cheap.
        found = [repository for name in page if (repository := self.repositories.get(name))]
        return JSONResponse([self.describe(repository, fields) for repository in found], headers=headers)

    def ordered(self, names: Sequence[str], sort: str) -> list[tuple[Any, str]]:
        """(key, name) in the order asked for, names deciding between equals and without an order."""
        by = SORTS.get(sort)
        if sort == "downloads":
            return sorted(((-self.downloads.get(name, 0), name), name) for name in names)
        if by is None:
            return [((name,), name) for name in names]
        found = [repository for name in names if (repository := self.repositories.get(name))]
        return sorted(((by(repository), repository.name), repository.name) for repository in found)

    def page(self, request: Request, rows: Sequence[tuple[Any, Row]]) -> tuple[list[Row], dict[str, str]]:
        """The rows after the request's cursor, of pairs (key, row) in order, and the Link to the next page.

        The cursor is the last key rather than an offset: models that arrive meanwhile shift nothing.
        """
        query = request.query_params
        limit = min(whole_number(query, "limit", self.page_size), self.page_size)
        if cursor := query.get("cursor"):
            try:
                after = tuple(json.loads(base64.urlsafe_b64decode(cursor)))
                rows = [row for row in rows if row[0] > after]
            except (ValueError, TypeError) as error:
                raise HTTPException(400, "bad cursor") from error
        page = rows[:limit]
        if len(rows) <= limit:
            return [row for _, row in page], {}
        following = base64.urlsafe_b64encode(json.dumps(page[-1][0]).encode()).decode()
        url = request.url.include_query_params(cursor=following)
        return [row for _, row in page], {"Link": f'<{url}>; rel="next"'}

    def model_info(self, request: Request) -> Response:
        repository = self.repository(request)
        query = request.query_params
        info = self.describe(repository, asked(query, INFO))
        if query.get("blobs", "").lower() in TRUE and "siblings" in info:
            info["siblings"] = [
                {"rfilename": file.path, "size": file.size, "blobId": file.hashes[0]}
                | ({"lfs": file.lfs} if file.lfs else {})
                for file in repository.files
            ]
        return JSONResponse(info)

    def refs(self, request: Request) -> Response:
        sha = self.repository(request).sha
        main_branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": sha}
        return JSONResponse({"branches": [main_branch], "converts": [], "tags": []})

    def tree(self, request: Request) -> Response:
        repository = self.repository(request)
        query = request.query_params
        top = request.path_params.get("path", "").strip("/")
        inside = [file for file in repository.files if not top or file.path.startswith(top + "/")]
        if top and not inside:
            raise no_entry(repository, top)
        rows: dict[str, dict[str, Any]] = {}
        for file in inside:
            parts = file.path[len(top) + 1 if top else 0 :].split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(([top] if top else []) + parts[:depth])
                rows[folder] = {"type": "directory", "path": folder, "oid": repository.sha, "size": 0}
            rows[file.path] = entry(file)
        if query.get("recursive", "").lower() not in TRUE:
            rows = {path: row for path, row in rows.items() if "/" not in path[len(top) + 1 if top else 0 :]}
        page, headers = self.page(request, [((path,), row) for path, row in sorted(rows.items())])
        return JSONResponse(page, headers=headers)

    async def paths_info(self, request: Request) -> Response:
        repository = self.repository(request)
        body = (await request.body()).decode()
        json_body = request.headers.get("content-type", "").startswith("application/json")
        paths = json.loads(body)["paths"] if json_body else parse_qs(body).get("paths", [])
        return JSONResponse([entry(repository.by_path[path]) for path in paths if path in repository.by_path])

    def resolve(self, request: Request) -> Response:
        repository = self.repository(request)
        path = request.path_params["path"]
        file = repository.by_path.get(path)  # only what was found on disk is served: `..` is no file
        if file is None:
            raise no_entry(repository, path)
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": repository.sha}
        if file.is_lfs:
            headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.etag}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Download(file.location, headers=headers, media_type="application/octet-stream")

    def repository(self, request: Request) -> Repository:
        """The repository that the address names, at the revision that it names.

        Raises 404 as the Hub words it when there is none.
        """
        parameters = request.path_params
        name = f"{parameters['org']}/{parameters['name']}"
        repository = self.repositories.get(name)
        if repository is None and name in self.moved:
            target = request.url.path.replace(name, self.moved[name], 1)
            raise HTTPException(307, "moved", {"Location": str(request.url.replace(path=target))})
        if repository is None:
            raise missing("RepoNotFound", "Repository not found")
        self.refuse_withheld(name, "/resolve/" in request.url.path)
        revision = parameters.get("revision", "main")
        if revision not in ("main", "refs/heads/main") and revision != repository.sha:
            raise missing("RevisionNotFound", f"Invalid rev id: {quote(revision)}")
        return repository

    def refuse_withheld(self, name: str, content: bool) -> None:
        """Raises what the Hub answers for what it withholds; of a gated repository it withholds the content only."""
        state = self.withheld.get(name)
        if state == "private":
            raise HTTPException(401, "Invalid credentials", {"X-Error-Code": "RepoNotFound"})
        if state == "disabled":
            raise HTTPException(403, "disabled", {"X-Error-Message": "Access to this resource is disabled."})
        if state == "gated" and content:
            raise HTTPException(403, "gated", {"X-Error-Code": "GatedRepo"})

    def describe(self, repository: Repository, fields: Sequence[str]) -> dict[str, Any]:
        """The fields of a repository, under the id that it has had since it was made."""
        name = repository.name
        while name in (before := {new: old for old, new in self.moved.items()}):
            name = before[name]
        state = self.withheld.get(repository.name)
        told: dict[str, Any] = {"disabled": state == "disabled", "downloads": self.downloads.get(repository.name, 0)}
        told |= {"gated": "manual" if state == "gated" else False}
        described = describe(repository, fields) | {"_id": describe(replace(repository, name=name), ())["_id"]}
        return described | {field: value for field, value in told.items() if field in described}

    def no_such_model(self, request: Request) -> NoReturn:
        raise missing("RepoNotFound", "Repository not found")


def describe(repository: Repository, fields: Sequence[str]) -> dict[str, Any]:
    number = hashlib.sha1(repository.name.encode(), usedforsecurity=False).hexdigest()[:24]
    identity = {"_id": number, "id": repository.name, "modelId": repository.name}
    return identity | {field: FIELDS[field](repository) for field in fields}


def asked(query: QueryParams, otherwise: Sequence[str]) -> Sequence[str]:
    """The fields of `expand` (or `expand[]`), or `otherwise`."""
    fields = query.getlist("expand") + query.getlist("expand[]")
    unknown = [field for field in fields if field not in FIELDS]
    if unknown:
        raise HTTPException(400, f"expand: {', '.join(unknown)} is not one of {', '.join(FIELDS)}")
    return fields or otherwise


def entry(file: HubFile) -> dict[str, Any]:
    row = {"type": "file", "path": file.path, "oid": file.hashes[0], "size": file.size}
    return row | ({"lfs": file.lfs} if file.lfs else {})


def whole_number(query: QueryParams, name: str, otherwise: int) -> int:
    text = query.get(name, str(otherwise))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise HTTPException(400, f"{name} must be a whole number above zero, not {text}")
    return int(text)


def iso(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def missing(code: str, message: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    """A 404 in the Hub's words. Headers are ASCII: quote what came with the address."""
    return HTTPException(404, message, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})


def no_entry(repository: Repository, path: str) -> HTTPException:
    return missing("EntryNotFound", f"Entry not found: {quote(path)}", {"X-Repo-Commit": repository.sha})


def answer_error(request: Request, error: Exception) -> Response:
    """The Hub's errors are JSON."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)
