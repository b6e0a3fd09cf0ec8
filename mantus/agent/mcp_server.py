"""Serve tools over MCP (Model Context Protocol) on standard input and output: `mantus agent --serve`.

It knows the protocol by its own package, not what the tools do; the orchestrator holds them to policy and deadlines.
"""

import asyncio
from typing import Any

import mantus
from mantus.agent.orchestrator import Result, ToolOrchestrator
from mantus.agent.tools import Status
from mantus.text.calls import Call


def serve(tools: ToolOrchestrator) -> None:
    """Answer until the client closes standard input. ValueError when the protocol's package is not installed."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise ValueError("--serve: needs the protocol's package: pip install 'mantus[agent]'") from None
    asyncio.run(_serve(tools))


async def _serve(tools: ToolOrchestrator) -> None:
    from mcp.server.stdio import stdio_server

    server = build(tools)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def build(tools: ToolOrchestrator) -> Any:
    """The server as an object of the protocol's package."""
    import mcp_types as types
    from mcp.server import Server

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        offered = [
            types.Tool(name=tool.name, description=tool.description, input_schema=tool.parameters)
            for tool in tools.tools.values()
        ]
        return types.ListToolsResult(tools=offered)

    one_at_a_time = asyncio.Lock()

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        async with one_at_a_time:
            result = await asyncio.to_thread(_call, tools, params.name, dict(params.arguments or {}))
        content: list[types.ContentBlock] = [types.TextContent(type="text", text=result.output)]
        return types.CallToolResult(content=content, is_error=result.status is not Status.OK)

    return Server("mantus", version=mantus.__version__, on_list_tools=list_tools, on_call_tool=call_tool)


def _call(tools: ToolOrchestrator, name: str, arguments: dict[str, Any]) -> Result:
    (result,) = tools.execute([Call(name, arguments)])
    return result
