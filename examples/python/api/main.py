"""An ASGI application: its requests and answers stream, and many run at once on one event loop."""

import asyncio

from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

ORDERS = {"A-1": 1250, "A-2": 8400}


async def orders(request):
    return JSONResponse(list(ORDERS))


async def order(request):
    number = request.path_params["number"]
    if number not in ORDERS:
        return JSONResponse({"error": f"there is no order {number}"}, status_code=404)
    return JSONResponse({"number": number, "total": ORDERS[number]})


async def watch(request):
    async def lines():
        for number in ORDERS:
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(lines(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/orders", orders),
        Route("/orders/watch", watch),
        Route("/orders/{number}", order),
    ]
)
