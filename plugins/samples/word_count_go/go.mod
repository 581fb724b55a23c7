module word_count_go

go 1.24

require warren v0.0.0

replace warren => ../../sdk/go/warren
