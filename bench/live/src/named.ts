// Answers with the name that its request has.
export default (request: Request): Response => new Response(new URL(request.url).searchParams.get("id"));
