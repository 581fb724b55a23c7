module probe

go 1.24

require warren v0.0.0

replace warren => ../../../../plugins/sdk/go/warren
