module bungee.dev/sdks/go

go 1.21
