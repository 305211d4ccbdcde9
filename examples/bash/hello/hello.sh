# Greets whom the path names: /functions/hello and /hello/ANN.

greet() {
  local event name=World
  event=$(cat)
  if [[ $event =~ \"pathParameters\":\{\"name\":\"([^\"]*)\" ]]; then name=${BASH_REMATCH[1]}; fi
  echo "greeting $name" >&2
  if [[ $name == nobody ]]; then
    echo "there is nobody to greet" >&2
    return 1
  fi
  printf '{"message":"%s, %s!"}\n' "$GREETING" "$name"
}
