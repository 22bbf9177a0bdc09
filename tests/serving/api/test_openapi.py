"""What the API's description says to people; what generators make of it is in system/test_clients.py."""

from collections.abc import Iterator

from derain import __version__
from serving.api.openapi import Description, describe
from serving.api.problems import ALL_TYPES
from serving.api.routes import ROUTES
from serving.pipeline.options import Options

DESCRIPTION = describe(ROUTES)
IMAGES = ("/v1/derain", "/v1/derain/batch")


def operations() -> Iterator[tuple[str, Description]]:
    for path, methods in DESCRIPTION["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_it_says_what_it_is_and_where() -> None:
    assert DESCRIPTION["info"]["version"] == __version__
    assert [server["url"] for server in DESCRIPTION["servers"]] == ["/"]


def test_each_operation_is_under_a_tag_that_is_described() -> None:
    described = {tag["name"] for tag in DESCRIPTION["tags"] if tag["description"]}
    assert {tag for _, operation in operations() for tag in operation["tags"]} == described
    assert len({operation["operationId"] for _, operation in operations()}) == len(list(operations()))


def test_an_answer_with_an_image_is_also_said_to_be_bytes() -> None:
    """Generators of clients that know no image types would leave it out, and return nothing."""
    for path in IMAGES:
        answer = DESCRIPTION["paths"][path]["post"]["responses"]["200"]["content"]
        assert answer["application/octet-stream"]["schema"] == {"type": "string", "format": "binary"}


def test_parameters_are_fields_as_well_and_are_not_sent_unless_said() -> None:
    """Many generated clients send a default, and that of the query would overrule what a field says."""
    for path in IMAGES:
        operation = DESCRIPTION["paths"][path]["post"]
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        assert [parameter["name"] for parameter in operation["parameters"]] == list(Options.model_fields)
        assert set(Options.model_fields) < set(form)
        schemas = [parameter["schema"] for parameter in operation["parameters"]] + list(form.values())
        assert not [schema for schema in schemas if "default" in schema]
        strength = next(one for one in operation["parameters"] if one["name"] == "strength")
        assert strength["description"].endswith("Default: 1.0.")


def test_each_status_names_its_types_of_error() -> None:
    responses = DESCRIPTION["paths"]["/v1/derain"]["post"]["responses"]
    said = " ".join(response["description"] for response in responses.values())
    statuses = {int(status) for status in responses}
    for known in ALL_TYPES:
        assert (known.uri in said) == (known.status in statuses), known.name


def test_there_are_examples() -> None:
    for schema in DESCRIPTION["components"]["schemas"].values():
        assert set(schema["example"]) == set(schema["properties"])
    assert DESCRIPTION["paths"]["/v1/derain"]["post"]["requestBody"]["content"]["image/*"]["examples"]
