// Gives its event back.
export default (event: unknown): unknown => event;
