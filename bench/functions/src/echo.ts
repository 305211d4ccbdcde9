// Streams the body back as it comes. The peers serve this very file.
export default (request: Request): Response => new Response(request.body);
